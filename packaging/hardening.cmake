# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hardening flags of Debian, on by default: vmemd parses input from guests, and the
# library input from vmemd. Builds with sanitizers, for fuzzing or for coverage have
# other checks and do not use them.
option(HARDENING "Build with the hardening flags of Debian" ON)
if(HARDENING AND NOT SANITIZE AND NOT FUZZ AND NOT COVERAGE)
	find_program(DPKG_BUILDFLAGS dpkg-buildflags)
	set(hardening_c -fstack-protector-strong -Wformat
		-Werror=format-security)
	set(hardening_cpp -D_FORTIFY_SOURCE=2)
	set(hardening_ld -Wl,-z,relro -Wl,-z,now)
	if(DPKG_BUILDFLAGS)
		foreach(kind C CPP LD)
			string(TOLOWER hardening_${kind} flags)
			execute_process(COMMAND ${CMAKE_COMMAND} -E env
				DEB_BUILD_MAINT_OPTIONS=hardening=+bindnow
				${DPKG_BUILDFLAGS} --get ${kind}FLAGS
				OUTPUT_VARIABLE ${flags} COMMAND_ERROR_IS_FATAL ANY)
			separate_arguments(${flags} UNIX_COMMAND "${${flags}}")
		endforeach()
		# The build type selects optimization and debug information.
		list(FILTER hardening_c EXCLUDE REGEX "^-(g|O.)$")
	endif()
	# FORTIFY needs optimization, which a debug build does not have.
	if(CMAKE_BUILD_TYPE STREQUAL Debug)
		list(FILTER hardening_cpp EXCLUDE REGEX FORTIFY)
	endif()
	add_compile_options(${hardening_c} ${hardening_cpp})
	add_link_options(${hardening_ld})
endif()
