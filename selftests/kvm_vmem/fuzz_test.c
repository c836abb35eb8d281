// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Random calls of all interfaces of the module: the ioctls of /dev/kvm-vmem,
 * other operations on its descriptors, and the netlink commands. Arguments are
 * mostly valid, so that calls get far. Otherwise they are wrong in any way:
 * sizes, flags, pointers to memory that ends too early, descriptors of another
 * kind and closed ones. Several threads make calls at the same time, on the
 * same VMs and regions.
 *
 * The result of a call is not checked; model_test.c does this. Checked are: the
 * kernel's log is clean (tap.h), a VM that no call names keeps its memslots,
 * and everything is freed when its descriptors are closed.
 *
 * usage: fuzz_test [--seed N] [--steps N]
 *
 * The defaults of the options are taken from KVM_VMEM_FUZZ_SEED and
 * KVM_VMEM_FUZZ_STEPS. The seed determines each thread's calls, but not their
 * interleaving.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/genetlink.h>
#include <linux/kvm_vmem.h>
#include <linux/kvm_vmem_netlink.h>
#include <linux/netlink.h>

#include "options.h"
#include "process.h"
#include "random.h"
#include "region.h"
#include "tap.h"
#include "vm.h"

#define SEED_ENV  "KVM_VMEM_FUZZ_SEED"
#define STEPS_ENV "KVM_VMEM_FUZZ_STEPS"

/* For all threads together: a few seconds in an emulated machine. */
#define DEFAULT_STEPS 3000
#define NR_THREADS    3

/* Rate of steps that wait for grace periods, on a busy machine. */
#define STEPS_PER_SECOND 20

/*
 * A call that takes longer hangs: no call takes this long on a busy machine. It
 * is shorter than the case's time limit.
 */
#define HANG_S 30

#define NR_VMS	   2
#define NR_REGIONS 8

/* Slots of the VM that no call names. */
#define BYSTANDER_SLOTS 5

/*
 * Memory for arguments, which may extend to its end. The page after it is
 * read-only, and the next is not mapped.
 */
#define ARENA_SIZE (4 * GUEST_PAGE)

/* The regions' memory, and its guest address. */
#define MEMORY_SIZE MIB(64)
#define MEMORY_GPA  GIB(4)

#define MESSAGE_MAX 512
#define ENTRIES_MAX 8
#define BYTES_MAX   256

/* Range of attribute types, including a few unknown ones. */
#define ATTRIBUTES 24

/* Location and block size of a region. */
struct geometry {
	uint64_t gpa;
	uint64_t size;
	uint64_t block_size;
};

/**
 * struct world - objects that the threads use
 * @dev: /dev/kvm-vmem
 * @vms: VMs that calls name
 * @bystander: a VM that no call names
 * @memory: memory of the regions and memslots
 * @bystander_memory: memory of the bystander's memslots
 * @event_fd: a descriptor of another kind
 * @regions: descriptors of regions, -1 for none. A thread may close one that
 * another is about to use
 * @geometries: geometries of the regions, as requested
 * @lock: protects changes of @regions and @geometries
 * @waiting_lock: a new region's descriptor blocks in read() until it is set to
 * O_NONBLOCK, and another thread may still know its number. Creating threads
 * hold this lock shared until then; a reader holds it exclusively
 * @nl: netlink handle
 */
struct world {
	int dev;
	struct vm vms[NR_VMS];
	struct vm bystander;
	struct backing memory;
	struct backing bystander_memory;
	int event_fd;
	int regions[NR_REGIONS];
	struct geometry geometries[NR_REGIONS];
	pthread_mutex_t lock;
	pthread_rwlock_t waiting_lock;
	struct vmem_nl *nl;
};

/**
 * struct actor - a thread
 * @world: the objects that it uses
 * @rng: state of its random numbers
 * @arena: memory for arguments, followed by a read-only page
 * @socket: netlink socket
 * @steps: steps left
 * @doing: name of the current call
 * @made: number of regions created
 * @succeeded: number of successful calls
 * @changes: number of change requests for existing regions
 * @thread: the thread
 */
struct actor {
	struct world *world;
	uint64_t rng;
	uint8_t *arena;
	int socket;
	uint32_t steps;
	const char *doing;
	uint32_t made;
	uint32_t succeeded;
	uint32_t changes;
	pthread_t thread;
};

static struct {
	uint64_t seed;
	uint32_t steps;
} sequence;

static uint32_t below(struct actor *a, uint32_t limit)
{
	return random_below(&a->rng, limit);
}

/* True with probability 1 / @nr. */
static bool rarely(struct actor *a, uint32_t nr)
{
	return !below(a, nr);
}

static int choose_region(struct actor *a)
{
	return __atomic_load_n(&a->world->regions[below(a, NR_REGIONS)],
			       __ATOMIC_RELAXED);
}

static int choose_vm(struct actor *a)
{
	return a->world->vms[below(a, NR_VMS)].fd;
}

/* A descriptor, mostly of the wrong kind. Never the bystander's. */
static int choose_fd(struct actor *a)
{
	switch (below(a, 8)) {
	case 0:
		return a->world->dev;
	case 1:
		return choose_vm(a);
	case 2:
		return a->world->vms[0].kvm_fd;
	case 3:
		return a->world->memory.fd;
	case 4:
		return a->world->event_fd;
	case 5:
		return -1;
	case 6:
		return 1 << 20;
	default:
		return choose_region(a);
	}
}

/* A boundary value, or any number. */
static uint64_t choose_number(struct actor *a)
{
	switch (below(a, 8)) {
	case 0:
		return 0;
	case 1:
		return ~0ULL - below(a, 3);
	case 2:
		return 1ULL << below(a, 64);
	case 3:
		return (1ULL << below(a, 64)) - 1;
	case 4:
		return below(a, 16);
	case 5:
		return GUEST_PAGE * below(a, 4096);
	case 6:
		return MEMORY_GPA + GUEST_PAGE * below(a, 4096);
	default:
		return random_u64(&a->rng);
	}
}

/* Mostly the valid number, otherwise any. */
static uint64_t or_any(struct actor *a, uint64_t right)
{
	return rarely(a, 16) ? choose_number(a) : right;
}

/* Choose the place of an argument of @size, and the address to pass. */
static void *place(struct actor *a, size_t size, void **address)
{
	uint8_t *good = a->arena + below(a, ARENA_SIZE - (uint32_t)size);

	*address = good;
	switch (below(a, 24)) {
	case 0:
		*address = NULL;
		break;
	case 1:
		/* The argument extends beyond mapped memory. */
		*address = a->arena + ARENA_SIZE + GUEST_PAGE -
			   below(a, (uint32_t)size + 1);
		break;
	case 2:
		/* The argument extends into the read-only page. */
		*address = a->arena + ARENA_SIZE - below(a, (uint32_t)size);
		break;
	case 3:
		*address = (void *)random_u64(&a->rng);
		break;
	}
	return good;
}

static void note(struct actor *a, long ret)
{
	if (ret >= 0)
		a->succeeded++;
}

static void call_query(struct actor *a)
{
	struct kvm_vmem_query query = {
		.size = (uint32_t)or_any(a, sizeof(query)),
		.flags = (uint32_t)or_any(a, 0),
	};
	void *address;

	memcpy(place(a, sizeof(query), &address), &query, sizeof(query));
	note(a, ioctl(a->world->dev, KVM_VMEM_QUERY, address));
}

static void choose_entry(struct actor *a,
			 struct kvm_userspace_memory_region *entry)
{
	uint64_t offset = GUEST_PAGE * below(a, MEMORY_SIZE / GUEST_PAGE);

	*entry = (struct kvm_userspace_memory_region){
		.slot = SLOT(rarely(a, 4), 1 + below(a, 32)),
		.flags = rarely(a, 3) ? below(a, 8) : 0,
		.guest_phys_addr = or_any(a, GIB(1) + offset),
		.memory_size =
			rarely(a, 3) ? 0 : or_any(a, GUEST_PAGE * below(a, 32)),
		.userspace_addr =
			or_any(a, (uintptr_t)a->world->memory.hva + offset),
	};
}

static void call_batch(struct actor *a)
{
	struct kvm_userspace_memory_region entries[ENTRIES_MAX];
	struct kvm_vmem_memslot_batch batch;
	void *address;
	uint32_t nr = below(a, ENTRIES_MAX + 1);

	for (uint32_t i = 0; i < nr; i++)
		choose_entry(a, &entries[i]);
	memcpy(place(a, sizeof(entries), &address), entries,
	       nr * sizeof(entries[0]));
	batch = (struct kvm_vmem_memslot_batch){
		.size = (uint32_t)or_any(a, sizeof(batch)),
		.vm_fd = rarely(a, 16) ? choose_fd(a) : choose_vm(a),
		.flags = (uint32_t)or_any(a, rarely(a, 4)),
		.nr = (uint32_t)or_any(a, nr),
		.regions = (uintptr_t)address,
		.entry_size = (uint32_t)or_any(a, sizeof(entries[0])),
	};
	memcpy(place(a, sizeof(batch), &address), &batch, sizeof(batch));
	note(a, ioctl(a->world->dev, KVM_VMEM_MEMSLOT_BATCH, address));
}

/* Close a region, and perhaps replace it by another. */
static void close_region(struct actor *a, int fd,
			 const struct kvm_vmem_create_region *args)
{
	uint32_t i = below(a, NR_REGIONS);
	int old;

	pthread_mutex_lock(&a->world->lock);
	old = a->world->regions[i];
	a->world->regions[i] = fd;
	if (args)
		a->world->geometries[i] = (struct geometry){
			.gpa = args->guest_phys_addr,
			.size = args->region_size,
			.block_size = args->block_size,
		};
	pthread_mutex_unlock(&a->world->lock);
	if (old >= 0)
		close(old);
}

static void call_create(struct actor *a)
{
	uint64_t block = GUEST_PAGE << below(a, 6);
	uint64_t slot = block * (1ULL << below(a, 4));
	uint64_t size = block * (1 + below(a, 64));
	uint64_t offset = block * below(a, 32);
	struct kvm_vmem_create_region args = {
		.size = (uint32_t)or_any(a, sizeof(args)),
		.vm_fd = rarely(a, 16) ? choose_fd(a) : choose_vm(a),
		.flags = (uint32_t)or_any(a, 0),
		.address_spaces = (uint32_t)or_any(a, 1 + below(a, 3)),
		.first_slot = (uint32_t)or_any(a, 64 * (1 + below(a, 32))),
		.guest_phys_addr =
			or_any(a, MEMORY_GPA + MIB(64) * below(a, 8) + offset),
		.region_size = or_any(a, size),
		.userspace_addr =
			or_any(a, (uintptr_t)a->world->memory.hva + offset),
		.block_size = or_any(a, block),
		.slot_size = or_any(a, slot),
	};
	void *address;
	int fd;

	memcpy(place(a, sizeof(args), &address), &args, sizeof(args));
	pthread_rwlock_rdlock(&a->world->waiting_lock);
	fd = ioctl(a->world->dev, KVM_VMEM_CREATE_REGION, address);
	/* No read may block: it might never be woken. */
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	pthread_rwlock_unlock(&a->world->waiting_lock);
	note(a, fd);
	if (fd < 0)
		return;
	a->made++;
	close_region(a, fd, &args);
}

static void call_get_memslots(struct actor *a)
{
	struct kvm_vmem_get_memslots get;
	void *address;

	place(a, 4 * sizeof(struct kvm_vmem_memslot), &address);
	get = (struct kvm_vmem_get_memslots){
		.size = (uint32_t)or_any(a, sizeof(get)),
		.vm_fd = rarely(a, 16) ? choose_fd(a) : choose_vm(a),
		.flags = (uint32_t)or_any(a, 0),
		.address_space = (uint32_t)or_any(a, below(a, 2)),
		.nr = (uint32_t)or_any(a, below(a, 5)),
		.memslot_size =
			(uint32_t)or_any(a, sizeof(struct kvm_vmem_memslot)),
		.memslots = (uintptr_t)address,
		.next_gpa = or_any(a, 0),
	};
	memcpy(place(a, sizeof(get), &address), &get, sizeof(get));
	note(a, ioctl(a->world->dev, KVM_VMEM_GET_MEMSLOTS, address));
}

/* An unknown ioctl, or one with the argument of another. */
static void call_ioctl(struct actor *a)
{
	int fd = rarely(a, 2) ? a->world->dev : choose_region(a);
	uint64_t words[BYTES_MAX / sizeof(uint64_t)];
	unsigned long number;
	void *address;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = choose_number(a);
	words[0] = or_any(a, below(a, 128)) | words[0] << 32;
	memcpy(place(a, sizeof(words), &address), words, sizeof(words));
	number = _IOC(below(a, 4), KVM_VMEM_IOC, below(a, 8), below(a, 128));
	if (rarely(a, 4))
		number = random_u64(&a->rng);
	note(a, ioctl(fd, number, address));
}

/* Other operations on a descriptor. */
static void use_fd(struct actor *a)
{
	int fd = rarely(a, 2) ? a->world->dev : choose_region(a);
	struct pollfd pollfd = {.fd = fd, .events = POLLIN | POLLPRI};
	char path[64], text[1024];
	void *address, *map;
	int info;

	place(a, 64, &address);
	switch (below(a, 6)) {
	case 0:
		pthread_rwlock_wrlock(&a->world->waiting_lock);
		note(a, read(fd, address, below(a, 64)));
		pthread_rwlock_unlock(&a->world->waiting_lock);
		break;
	case 1:
		note(a, write(fd, address, below(a, 64)));
		break;
	case 2:
		note(a, poll(&pollfd, 1, 0));
		break;
	case 3:
		map = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED)
			munmap(map, GUEST_PAGE);
		break;
	case 4:
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		info = open(path, O_RDONLY | O_CLOEXEC);
		if (info < 0)
			break;
		note(a, read(info, text, sizeof(text)));
		close(info);
		break;
	case 5:
		close_region(a, -1, NULL);
		break;
	}
}

/* The VMM changes its own memslots, including those of regions. */
static void meddle(struct actor *a)
{
	struct kvm_userspace_memory_region entry;

	choose_entry(a, &entry);
	if (rarely(a, 2)) {
		entry.slot = SLOT(below(a, 2), 64 * (1 + below(a, 32)));
		entry.memory_size = 0;
	}
	note(a, ioctl(choose_vm(a), KVM_SET_USER_MEMORY_REGION, &entry));
}

/* A call from a process that is not the VMM. */
static void call_from_elsewhere(struct actor *a)
{
	struct kvm_vmem_memslot_batch batch = {
		.size = sizeof(batch),
		.vm_fd = choose_vm(a),
		.entry_size = sizeof(struct kvm_userspace_memory_region),
	};
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		/* An empty batch has no entries to refuse. */
		ioctl(a->world->dev, KVM_VMEM_MEMSLOT_BATCH, &batch);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
}

/* --- Netlink --- */

static void *put(struct actor *a, struct nlmsghdr *nlh, uint16_t type,
		 const void *data, size_t size)
{
	struct nlattr *attr =
		(struct nlattr *)((uint8_t *)nlh + NLMSG_ALIGN(nlh->nlmsg_len));

	if (NLMSG_ALIGN(nlh->nlmsg_len) + NLA_ALIGN(NLA_HDRLEN + size) >
	    MESSAGE_MAX)
		return NULL;
	attr->nla_type = type;
	attr->nla_len = (uint16_t)or_any(a, NLA_HDRLEN + size);
	memcpy((uint8_t *)attr + NLA_HDRLEN, data, size);
	nlh->nlmsg_len =
		NLMSG_ALIGN(nlh->nlmsg_len) + NLA_ALIGN(NLA_HDRLEN + size);
	return attr;
}

static void put_range(struct actor *a, struct nlmsghdr *nlh, uint64_t gpa,
		      uint64_t size)
{
	struct {
		struct nlattr gpa_attr;
		uint64_t gpa;
		struct nlattr size_attr;
		uint64_t size;
	} __attribute__((packed)) range = {
		.gpa_attr = {NLA_HDRLEN + sizeof(gpa), KVM_VMEM_A_RANGE_GPA},
		.gpa = gpa,
		.size_attr = {NLA_HDRLEN + sizeof(size), KVM_VMEM_A_RANGE_SIZE},
		.size = size,
	};

	put(a, nlh, KVM_VMEM_A_BLOCK_RANGE | (rarely(a, 8) ? 0 : NLA_F_NESTED),
	    &range, sizeof(range));
}

/* Blocks that a region may have. */
static void put_any_range(struct actor *a, struct nlmsghdr *nlh)
{
	uint64_t block = GUEST_PAGE << below(a, 6);
	uint64_t gpa = or_any(a, MEMORY_GPA + MIB(64) * below(a, 8) +
					 block * below(a, 96));

	put_range(a, nlh, gpa, or_any(a, block * below(a, 16)));
}

static void put_any(struct actor *a, struct nlmsghdr *nlh)
{
	uint64_t value = choose_number(a);
	static const size_t sizes[] = {0, 1, 2, 4, 8};

	put(a, nlh, (uint16_t)or_any(a, below(a, ATTRIBUTES)), &value,
	    sizes[below(a, ARRAY_SIZE(sizes))]);
}

static void receive_some(struct actor *a)
{
	static __thread uint8_t bytes[32768];

	/* A dump continues as long as it is read. Do not always read all. */
	for (int i = 0; i < 8; i++)
		if (recv(a->socket, bytes, sizeof(bytes), MSG_DONTWAIT) < 0)
			break;
}

static void begin_message(struct actor *a, struct nlmsghdr *nlh, uint8_t cmd,
			  uint16_t flags)
{
	struct genlmsghdr *genl = NLMSG_DATA(nlh);

	nlh->nlmsg_type = vmem_nl_family(a->world->nl);
	nlh->nlmsg_flags = flags;
	nlh->nlmsg_seq = a->steps;
	nlh->nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	genl->cmd = cmd;
	genl->version = KVM_VMEM_FAMILY_VERSION;
}

/*
 * Change blocks of an existing region, so that changes of all threads and the
 * end of the region run concurrently in KVM, instead of being refused early.
 */
static void send_change(struct actor *a)
{
	static const uint8_t commands[] = {
		KVM_VMEM_CMD_BLOCK_PLUG, KVM_VMEM_CMD_BLOCK_PLUG,
		KVM_VMEM_CMD_BLOCK_UNPLUG, KVM_VMEM_CMD_BLOCK_UNPLUG,
		KVM_VMEM_CMD_BLOCK_UNPLUG_ALL};
	uint8_t bytes[MESSAGE_MAX] = {0};
	struct nlmsghdr *nlh = (struct nlmsghdr *)bytes;
	uint32_t i = below(a, NR_REGIONS), first, nr;
	uint8_t cmd = commands[below(a, ARRAY_SIZE(commands))];
	struct geometry at;
	int32_t fd;

	pthread_mutex_lock(&a->world->lock);
	fd = a->world->regions[i];
	at = a->world->geometries[i];
	pthread_mutex_unlock(&a->world->lock);
	if (fd < 0)
		return;
	begin_message(a, nlh, cmd, NLM_F_REQUEST | NLM_F_ACK);
	put(a, nlh, KVM_VMEM_A_BLOCK_REGION_FD, &fd, sizeof(fd));
	if (cmd != KVM_VMEM_CMD_BLOCK_UNPLUG_ALL) {
		nr = (uint32_t)(at.size / at.block_size);
		first = below(a, nr);
		put_range(a, nlh, at.gpa + first * at.block_size,
			  (1 + below(a, nr - first)) * at.block_size);
	}
	if (send(a->socket, bytes, nlh->nlmsg_len, MSG_DONTWAIT) > 0)
		a->changes++;
	receive_some(a);
}

static void send_message(struct actor *a)
{
	static const uint16_t flags[] = {
		NLM_F_REQUEST | NLM_F_ACK, NLM_F_REQUEST,
		NLM_F_REQUEST | NLM_F_DUMP,
		NLM_F_REQUEST | NLM_F_DUMP | NLM_F_ACK,
		NLM_F_REQUEST | NLM_F_ECHO | NLM_F_REPLACE};
	uint8_t bytes[MESSAGE_MAX] = {0};
	struct nlmsghdr *nlh = (struct nlmsghdr *)bytes;
	const struct genlmsghdr *genl = NLMSG_DATA(nlh);
	int32_t fd = rarely(a, 16) ? choose_fd(a) : choose_region(a);
	uint32_t id = below(a, 4096);
	uint64_t number = random_u64(&a->rng);
	uint64_t requested = GUEST_PAGE * below(a, 512);

	begin_message(a, nlh, (uint8_t)or_any(a, 1 + below(a, 7)),
		      (uint16_t)or_any(a, flags[below(a, 5)]));
	/*
	 * All messages except REGION_* have the region at the same attribute
	 * number.
	 */
	if (!rarely(a, 12)) {
		if (rarely(a, 8))
			put(a, nlh, KVM_VMEM_A_BLOCK_REGION_ID, &id,
			    sizeof(id));
		else
			put(a, nlh, KVM_VMEM_A_BLOCK_REGION_FD, &fd,
			    sizeof(fd));
	}
	switch (genl->cmd) {
	case KVM_VMEM_CMD_REGION_SET:
		put(a, nlh, KVM_VMEM_A_REGION_REQUESTED_SIZE, &requested,
		    sizeof(requested));
		if (rarely(a, 2))
			put(a, nlh, KVM_VMEM_A_REGION_DIRTY_LOG,
			    &(uint8_t){(uint8_t)below(a, 3)}, 1);
		break;
	case KVM_VMEM_CMD_BLOCK_PLUG:
	case KVM_VMEM_CMD_BLOCK_UNPLUG:
		for (uint32_t i = below(a, 5); i; i--)
			put_any_range(a, nlh);
		/* FALLTHROUGH */
	case KVM_VMEM_CMD_BLOCK_UNPLUG_ALL:
		if (rarely(a, 2))
			put(a, nlh, KVM_VMEM_A_BLOCK_REQUEST_ID, &number,
			    sizeof(number));
		break;
	}
	while (rarely(a, 4))
		put_any(a, nlh);
	nlh->nlmsg_len = (uint32_t)or_any(a, nlh->nlmsg_len);
	note(a,
	     send(a->socket, bytes,
		  nlh->nlmsg_len < MESSAGE_MAX ? nlh->nlmsg_len : MESSAGE_MAX,
		  MSG_DONTWAIT));
	receive_some(a);
}

static void *act(void *arg)
{
	static const struct {
		const char *name;
		void (*run)(struct actor *a);
		uint32_t weight;
	} calls[] = {
		{"QUERY", call_query, 9},
		{"MEMSLOT_BATCH", call_batch, 17},
		{"CREATE_REGION", call_create, 17},
		{"GET_MEMSLOTS", call_get_memslots, 9},
		{"an ioctl of any number", call_ioctl, 9},
		{"use of a descriptor", use_fd, 9},
		{"netlink", send_message, 48},
		{"a change", send_change, 48},
		{"KVM_SET_USER_MEMORY_REGION", meddle, 9},
		{"a call from another process", call_from_elsewhere, 1},
	};
	struct actor *a = arg;
	uint32_t weights = 0;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		weights += calls[i].weight;
	while (a->steps) {
		uint32_t choice = below(a, weights);
		size_t i = 0;

		while (choice >= calls[i].weight)
			choice -= calls[i++].weight;
		__atomic_store_n(&a->doing, calls[i].name, __ATOMIC_RELAXED);
		calls[i].run(a);
		__atomic_store_n(&a->steps, a->steps - 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Wait for the thread's end, as long as it makes progress. */
static void actor_join(struct actor *a, uint32_t index)
{
	uint32_t steps;
	int r;

	do {
		struct timespec deadline;

		steps = __atomic_load_n(&a->steps, __ATOMIC_RELAXED);
		ASSERT_EQ(clock_gettime(CLOCK_REALTIME, &deadline), 0);
		deadline.tv_sec += HANG_S;
		r = pthread_timedjoin_np(a->thread, NULL, &deadline);
	} while (r == ETIMEDOUT &&
		 __atomic_load_n(&a->steps, __ATOMIC_RELAXED) != steps);
	if (r == ETIMEDOUT)
		tap_note("thread %u hangs, %u steps before its end, in: %s",
			 index, steps,
			 __atomic_load_n(&a->doing, __ATOMIC_RELAXED));
	ASSERT_EQ(r, 0);
	close(a->socket);
}

static void actor_start(struct actor *a, struct world *world, uint32_t index)
{
	struct sockaddr_nl addr = {.nl_family = AF_NETLINK};

	*a = (struct actor){
		.world = world,
		.rng = sequence.seed + index,
		.steps = sequence.steps / NR_THREADS,
	};
	/* The page after the arena is read-only, and the next is not mapped. */
	a->arena =
		mmap(NULL, ARENA_SIZE + 2 * GUEST_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(a->arena != MAP_FAILED);
	ASSERT_EQ(mprotect(a->arena + ARENA_SIZE, GUEST_PAGE, PROT_READ), 0);
	ASSERT_EQ(munmap(a->arena + ARENA_SIZE + GUEST_PAGE, GUEST_PAGE), 0);
	a->socket =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	ASSERT_GE(a->socket, 0);
	ASSERT_EQ(bind(a->socket, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ASSERT_EQ(pthread_create(&a->thread, NULL, act, a), 0);
}

/* --- The VM that no call names --- */

static void bystander_get(struct world *world,
			  struct kvm_vmem_memslot slots[BYSTANDER_SLOTS + 1])
{
	struct kvm_vmem_get_memslots get = {
		.size = sizeof(get),
		.vm_fd = world->bystander.fd,
		.nr = BYSTANDER_SLOTS + 1,
		.memslot_size = sizeof(slots[0]),
		.memslots = (uintptr_t)slots,
	};

	memset(slots, 0, (BYSTANDER_SLOTS + 1) * sizeof(slots[0]));
	ASSERT_OK(ioctl(world->dev, KVM_VMEM_GET_MEMSLOTS, &get) < 0 ? -errno
								     : 0);
	ASSERT_EQ(get.nr, BYSTANDER_SLOTS);
}

static void bystander_make(struct world *world)
{
	vm_create(&world->bystander, VM_BARE);
	backing_create(&world->bystander_memory, MIB(1));
	for (uint32_t i = 0; i < BYSTANDER_SLOTS; i++)
		ASSERT_OK(vm_set_region(
			&world->bystander, i, 0, MEMORY_GPA + i * MIB(1),
			KIB(64), world->bystander_memory.hva + i * KIB(64)));
}

static void world_make(struct world *world)
{
	memset(world, 0, sizeof(*world));
	pthread_mutex_init(&world->lock, NULL);
	pthread_rwlock_init(&world->waiting_lock, NULL);
	world->dev = open("/dev/kvm-vmem", O_RDWR | O_CLOEXEC);
	ASSERT_GE(world->dev, 0);
	for (int i = 0; i < NR_VMS; i++)
		vm_create(&world->vms[i], VM_BARE);
	backing_create(&world->memory, MEMORY_SIZE);
	world->event_fd = memfd_create("not an eventfd", MFD_CLOEXEC);
	for (int i = 0; i < NR_REGIONS; i++)
		world->regions[i] = -1;
	world->nl = netlink_open();
	bystander_make(world);
}

/* Destroy everything except the bystander. */
static void world_end(struct world *world)
{
	for (int i = 0; i < NR_REGIONS; i++)
		if (world->regions[i] >= 0)
			close(world->regions[i]);
	for (int i = 0; i < NR_VMS; i++)
		vm_destroy(&world->vms[i]);
	backing_destroy(&world->memory);
	close(world->event_fd);
	vmem_nl_close(world->nl);
}

static void random_calls(const void *arg)
{
	struct kvm_vmem_memslot before[BYSTANDER_SLOTS + 1];
	struct kvm_vmem_memslot after[BYSTANDER_SLOTS + 1];
	struct actor actors[NR_THREADS];
	uint32_t made = 0, succeeded = 0, changes = 0;
	struct world world;

	(void)arg;
	tap_note("seed %llu, %u steps in %d threads",
		 (unsigned long long)sequence.seed, sequence.steps, NR_THREADS);
	world_make(&world);
	bystander_get(&world, before);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		actor_start(&actors[i], &world, i);
	for (uint32_t i = 0; i < NR_THREADS; i++) {
		actor_join(&actors[i], i);
		made += actors[i].made;
		succeeded += actors[i].succeeded;
		changes += actors[i].changes;
	}
	bystander_get(&world, after);
	EXPECT_EQ(memcmp(before, after, sizeof(before)), 0);
	tap_note(
		"%u calls succeeded, %u regions were created, %u changes were requested",
		succeeded, made, changes);
	/* Otherwise too many calls were refused early. */
	EXPECT_GT(made, sequence.steps / 1000);
	EXPECT_GT(succeeded, sequence.steps / 20);
	EXPECT_GT(changes, sequence.steps / 50);

	world_end(&world);
	region_await_none();
	while (kvm_vm_count() > 1)
		usleep(1000);
	bystander_get(&world, after);
	EXPECT_EQ(memcmp(before, after, sizeof(before)), 0);
	vm_destroy(&world.bystander);
	backing_destroy(&world.bystander_memory);
	close(world.dev);
	await_no_vm();
}

int main(int argc, char **argv)
{
	static struct tap_case cases[] = {
		{.name = "random calls do no harm and leave nothing behind",
		 .run = random_calls},
	};
	struct options options = {.seed_env = SEED_ENV,
				  .steps_env = STEPS_ENV,
				  .steps = DEFAULT_STEPS};

	if (!options_parse(&options, argc, argv) ||
	    options.steps < NR_THREADS || options.steps > UINT32_MAX / 2) {
		fprintf(stderr, "usage: fuzz_test [--seed N] [--steps N]\n");
		return EXIT_FAILURE;
	}
	sequence.seed = options.seed;
	sequence.steps = (uint32_t)options.steps;
	cases[0].timeout_s =
		TAP_DEFAULT_TIMEOUT_S + sequence.steps / STEPS_PER_SECOND;
	return tap_run(cases, ARRAY_SIZE(cases));
}
