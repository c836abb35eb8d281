/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of QEMU's device "edu"; see docs/specs/edu.rst of QEMU. */
#ifndef EDU_REGISTERS_H
#define EDU_REGISTERS_H

#define EDU_IDENTITY 0x010000edu
#define EDU_DMA_FROM 0x80
#define EDU_DMA_TO   0x88
#define EDU_DMA_SIZE 0x90
#define EDU_DMA_DO   0x98
#define EDU_DMA_RUN  1U
#define EDU_TO_RAM   2U
#define EDU_BUFFER   0x40000U

#endif /* EDU_REGISTERS_H */
