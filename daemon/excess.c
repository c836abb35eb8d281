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
 * find beyond what it has granted.
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
#include "excess.h"
#include "size.h"

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
 * @owed: memory of unplugged blocks is still to be given back, by us: how much
 *	the guest has cannot be told
 *
 * Return: whether all unplugged blocks are to be discarded.
 */
bool excess_look(struct excess *excess, uint64_t resident, uint64_t plugged,
		 bool owed)
{
	char size[SIZE_TEXT_MAX], cap[SIZE_TEXT_MAX];

	if (owed)
		return false;
	excess->now = resident > plugged ? resident - plugged : 0;
	warn(excess, resident, plugged);
	if (!excess->has_cap || excess->now <= excess->cap)
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
