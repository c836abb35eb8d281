# SPDX-License-Identifier: GPL-2.0-or-later
#
# CPack runs this after the installation for the packages. It strips programs and
# libraries as Debian's dh_strip does, including the name of the compiler.
file(GLOB programs "${CPACK_TEMPORARY_DIRECTORY}/*/usr/bin/*"
	"${CPACK_TEMPORARY_DIRECTORY}/*/usr/sbin/*"
	"${CPACK_TEMPORARY_DIRECTORY}/*/usr/lib/*/lib*.so.*.*")
foreach(program ${programs})
	execute_process(COMMAND strip --remove-section=.comment
		--remove-section=.note ${program} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
file(GLOB archives "${CPACK_TEMPORARY_DIRECTORY}/*/usr/lib/*/lib*.a")
foreach(archive ${archives})
	execute_process(COMMAND strip --strip-debug --remove-section=.comment
		--remove-section=.note --enable-deterministic-archives
		${archive} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
