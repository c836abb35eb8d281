# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian packages by CPack ("cmake --build FOLDER --target package"), one for each
# component of the installation:
#
#   kvm-vmem-dkms  sources of the module; DKMS builds it for each kernel
#   vmemd          vmemd, vmemctl, systemd units, udev rule, manual pages
#   libkvmvmem0    the shared library for VMMs
#   kvm-vmem-dev   headers, the library to link with, netlink specification

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME kvm-vmem)
set(CPACK_PACKAGE_VENDOR "the kvm-vmem authors")
# DEBEMAIL and DEBFULLNAME name the builder, as for Debian's own tools.
set(CPACK_PACKAGE_CONTACT "the kvm-vmem authors <kvm-vmem@packages.invalid>")
if(DEFINED ENV{DEBEMAIL})
	set(CPACK_PACKAGE_CONTACT "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
endif()
set(CPACK_PACKAGE_DESCRIPTION_FILE ${PROJECT_SOURCE_DIR}/README.md)
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/COPYING)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/packaging/strip.cmake)
# Install below DESTDIR with the final prefix, because the unit contains the path.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE
	GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL dkms vmemd lib dev)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(KVM_VMEM_DEB_ABOUT
"A virtio-mem device lets a VM grow from little memory to very much. kvm-vmem
cuts its region into many small memslots and has in KVM only those that hold
plugged memory.")

# debian_package(COMPONENT NAME SECTION TEXT)
macro(debian_package component name section text)
	string(TOUPPER ${component} upper)
	set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
	set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${section})
	set(CPACK_DEBIAN_${upper}_DESCRIPTION
		"${KVM_VMEM_DEB_ABOUT}\n\n${text}")
	set(folder ${CMAKE_CURRENT_BINARY_DIR}/packaging/${name})
	foreach(script postinst prerm postrm)
		set(source ${PROJECT_SOURCE_DIR}/packaging/${name}.${script}.in)
		if(EXISTS ${source})
			configure_file(${source} ${folder}/${script} @ONLY
				FILE_PERMISSIONS OWNER_READ OWNER_WRITE
				OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
				WORLD_READ WORLD_EXECUTE)
			list(APPEND CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA
				${folder}/${script})
		endif()
	endforeach()
	install(FILES ${PROJECT_SOURCE_DIR}/packaging/copyright
		DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name}
		COMPONENT ${component} EXCLUDE_FROM_ALL)
	file(CONFIGURE OUTPUT ${folder}/changelog.Debian CONTENT
"${name} (${PROJECT_VERSION}) unstable; urgency=medium

  * Built from the sources of this version.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
	execute_process(COMMAND gzip -9nkf ${folder}/changelog.Debian
		COMMAND_ERROR_IS_FATAL ANY)
	install(FILES ${folder}/changelog.Debian.gz
		DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name}
		RENAME changelog.gz COMPONENT ${component} EXCLUDE_FROM_ALL)
endmacro()

# SOURCE_DATE_EPOCH sets this date, for reproducible builds.
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)

debian_package(dkms kvm-vmem-dkms kernel
	"This package has the sources of the kernel module; DKMS builds it.")
set(CPACK_DEBIAN_DKMS_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_DKMS_PACKAGE_DEPENDS "dkms (>= 3.0)")
set(CPACK_DEBIAN_DKMS_PACKAGE_RECOMMENDS "linux-headers-amd64")
set(CPACK_DEBIAN_DKMS_PACKAGE_SUGGESTS vmemd)

debian_package(vmemd vmemd admin
	"This package has vmemd, the device as a vhost-user back end, and vmemctl.")
set(CPACK_DEBIAN_VMEMD_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_VMEMD_PACKAGE_RECOMMENDS "kvm-vmem-dkms (>= ${PROJECT_VERSION})")

# Control files that debhelper would generate. dpkg-shlibdeps of other packages reads
# the symbols file, in which dpkg does not permit comments.
set(library_control ${CMAKE_CURRENT_BINARY_DIR}/packaging/libkvmvmem0)
file(STRINGS packaging/libkvmvmem0.symbols symbols)
list(FILTER symbols EXCLUDE REGEX "^# ")
list(JOIN symbols "\n" symbols)
file(WRITE ${library_control}/symbols "${symbols}\n")
file(WRITE ${library_control}/shlibs
	"libkvmvmem 0 libkvmvmem0 (>= ${PROJECT_VERSION})\n")
file(WRITE ${library_control}/triggers "activate-noawait ldconfig\n")
debian_package(lib libkvmvmem0 libs
	"This package has the library that a VMM uses it by.")
# SHLIBDEPS is not used, because CPack then adds scripts that call ldconfig, which a
# trigger does. The library depends only on the C library.
execute_process(COMMAND getconf GNU_LIBC_VERSION OUTPUT_VARIABLE libc
	OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "^glibc " "" libc "${libc}")
set(CPACK_DEBIAN_LIB_PACKAGE_DEPENDS "libc6 (>= ${libc})")
set(CPACK_DEBIAN_LIB_PACKAGE_SUGGESTS vmemd)
list(APPEND CPACK_DEBIAN_LIB_PACKAGE_CONTROL_EXTRA ${library_control}/symbols
	${library_control}/shlibs ${library_control}/triggers)

debian_package(dev kvm-vmem-dev libdevel
"This package has the headers of the module and of the library, the library to
link with, examples, and the netlink specification.")
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
	"libkvmvmem0 (= ${PROJECT_VERSION}), linux-libc-dev")

include(CPack)
