// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Excess: memory in use beyond the plugged size.
 *
 * A memslot makes all of its blocks accessible to the guest, including
 * unplugged ones. A guest that breaks the rules can touch unplugged blocks, or
 * let a device of the VMM write to them, and so use memory that was not
 * granted. It cannot use more than the populated memslots have. vmemd can see
 * the excess: more of the memory file is resident than is plugged.
 *
 * The excess is a lower bound of the memory that the guest has taken, because
 * the guest may have left plugged blocks untouched. It is exactly the memory
 * that the host provides beyond what was granted. Unplugged blocks that vmemd
 * still has to discard count as granted. So the excess can be checked at any
 * time, and a guest cannot hide it by keeping vmemd busy.
 *
 * Excess causes one warning, until it has gone. With a cap, excess above the
 * cap causes all unplugged blocks to be discarded, as after an unplug. The
 * guest loses what it wrote to them, which the specification permits. A fast
 * guest can exceed the cap until the discard is complete, and again afterwards.
 * A hard limit needs the memory controller of the VMM's cgroup, or memslots of
 * one block.
 *
 * A check costs a system call. It is done when changes are reported, which is
 * once for many requests, when a client asks for the status, and by a timer if
 * there is a cap. Without a cap, an idle daemon does not wake up.
 */
#include "device/excess.h"
#include "common/size.h"

static void warn(struct excess *excess, uint64_t resident, uint64_t plugged)
{
	char have[SIZE_TEXT_MAX], granted[SIZE_TEXT_MAX];

	if (excess->now <= EXCESS_WARN / 2)
		excess->warned = false;
	if (excess->now <= EXCESS_WARN || excess->warned)
		return;
	excess->warned = true;
	log_limited(&excess->limit, LOG_LEVEL_WARNING, excess->label,
		    "the guest has %s of memory, and %s are plugged: it uses "
		    "unplugged blocks",
		    size_format(resident, have), size_format(plugged, granted));
}

/**
 * excess_look() - check for excess
 * @excess: the device's excess
 * @resident: bytes of resident memory
 * @plugged: the plugged size
 * @owed: bytes in unplugged blocks that vmemd still has to discard
 * @taking: all unplugged blocks are being discarded already
 *
 * Return: whether the caller must discard all unplugged blocks.
 */
bool excess_look(struct excess *excess, uint64_t resident, uint64_t plugged,
		 uint64_t owed, bool taking)
{
	char size[SIZE_TEXT_MAX], cap[SIZE_TEXT_MAX];
	uint64_t granted = plugged + owed;

	excess->now = resident > granted ? resident - granted : 0;
	warn(excess, resident, plugged);
	if (taking || !excess->has_cap || excess->now <= excess->cap)
		return false;
	excess->punches++;
	excess->punched_size += excess->now;
	log_limited(&excess->limit, LOG_LEVEL_WARNING, excess->label,
		    "unplugged blocks have %s of memory, the cap is %s: it is "
		    "taken back",
		    size_format(excess->now, size),
		    size_format(excess->cap, cap));
	return true;
}
