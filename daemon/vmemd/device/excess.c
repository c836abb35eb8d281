// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that there is beyond what is plugged.
 *
 * A memslot shows the guest all of its blocks, also those that are not plugged,
 * and a guest that breaks the rules can touch them: then the host has memory for
 * them that nobody has granted. The same does a device of the VMM's that the
 * guest points there. It does not get more than the populated memslots have, and
 * vmemd sees it: the memory file has more than is plugged.
 *
 * How much more is a bound from below of what the guest has taken, as it may
 * have left plugged blocks untouched; and it is exactly what the host has to
 * find beyond what it has granted. Memory of blocks that were unplugged, and that
 * vmemd has still to give back, counts as granted. So it is judged at any time: a
 * guest that keeps vmemd busy, with debts or requests, gains nothing.
 *
 * It is warned of, once until it has gone. With a cap, all unplugged blocks are
 * discarded when it is more, as after an unplug: the guest loses what it wrote
 * there, and it was told that nothing is there. A guest that is quick has more
 * than the cap until that is done, and again after; what bounds it at every
 * moment is the memory controller of the VMM's cgroup, or memslots as small as
 * blocks.
 *
 * Looking costs a system call. It is done when changes are told, which is once
 * after many requests, when somebody asks for status, and by a timer only with a
 * cap: an idle daemon without one does not wake up for it.
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
 * excess_look() - judge how much memory there is
 * @resident: bytes of memory
 * @plugged: bytes that are plugged
 * @owed: bytes of blocks that are not plugged, and that we have to give back
 * @taking: it is being taken back already
 *
 * Return: whether all unplugged blocks are to be discarded.
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
