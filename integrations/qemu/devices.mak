# SPDX-License-Identifier: GPL-2.0-or-later
#
# The devices that the tests' QEMU has, for --with-devices-x86_64.
CONFIG_Q35=y
CONFIG_SERIAL_ISA=y
CONFIG_VIRTIO_PCI=y
CONFIG_PCIE_PORT=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_MEM=y
CONFIG_VIRTIO_NET=y
# hv-balloon is the other device that hotplugs parts of its memory.
CONFIG_HYPERV=y
CONFIG_VMBUS=y
CONFIG_HV_BALLOON=y
# vDPA as a device of its own.
CONFIG_VHOST_VDPA_DEV=y
# DMA: an emulated device, and a device of the host.
CONFIG_EDU=y
CONFIG_VFIO_PCI=y
