# SPDX-License-Identifier: GPL-2.0-or-later
#
# Stub that replaces the decompressor of a bzImage. It moves the kernel behind it to
# its address and enters it as the decompressor does, in long mode with an identity
# mapping. The boot loader loads the stub to 1 MiB and enters it in 32-bit protected
# mode, with flat segments and boot_params in %esi.
#
# TARGET is the kernel's address, SIZE its size in bytes, ENTRY its entry.

.set PRESENT_WRITABLE, 0x3
.set LARGE, 0x80
.set CR4_PAE, 0x20
.set MSR_EFER, 0xc0000080
.set EFER_LME, 0x100
.set CR0_PE_PG, 0x80000001
.set CODE, 0x10			# the segments of the boot protocol
.set DATA, 0x18
.set MAPPED_GIB, 4		# the kernel, the stub and boot_params are below 4 GiB

	.code32
	.globl	_start
_start:
	cli
	mov	%esi, %ebp
	lgdt	gdtr

	# Copy backwards: the target is above the source, and may overlap it.
	std
	mov	$kernel + SIZE - 4, %esi
	mov	$TARGET + SIZE - 4, %edi
	mov	$SIZE / 4, %ecx
	rep movsl
	cld

	# The page tables take the place of the kernel that was moved.
	mov	$pml4, %edi
	xor	%eax, %eax
	mov	$(2 + MAPPED_GIB) * 1024, %ecx
	rep stosl
	movl	$pdpt + PRESENT_WRITABLE, pml4
	mov	$pdpt, %edi
	mov	$pd + PRESENT_WRITABLE, %eax
	mov	$MAPPED_GIB, %ecx
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$4096, %eax
	loop	1b
	mov	$pd, %edi
	mov	$LARGE + PRESENT_WRITABLE, %eax
	mov	$MAPPED_GIB * 512, %ecx
2:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	loop	2b

	mov	%cr4, %eax
	or	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$EFER_LME, %eax
	wrmsr
	mov	%cr0, %eax
	or	$CR0_PE_PG, %eax
	mov	%eax, %cr0
	ljmpl	$CODE, $long

	.code64
long:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%ebp, %esi
	mov	$ENTRY, %eax
	jmp	*%rax

	.balign 8
gdt:
	.quad	0, 0
	.quad	0x00af9b000000ffff	# CODE, 64 bits
	.quad	0x00cf93000000ffff	# DATA
gdtr:
	.word	. - gdt - 1
	.long	gdt

	.balign 4096
kernel:
	.set	pml4, kernel
	.set	pdpt, pml4 + 4096
	.set	pd, pdpt + 4096
