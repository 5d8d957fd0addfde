/* A team: the thread that makes a call, and helpers that share the phases of its work, each cut in numbered parts.
   run_joined in _threads.py brings helpers; here they meet, without Python, as phases are some microseconds long.

   `left` holds the parts that nobody has taken, from the first (low half) to the end (high half). The caller takes the
   first, helpers take the last, so that each finds in its cache what it had there in the phase before. A part is taken
   by compare-and-exchange of the whole word; what is to be done is read after that. A helper that was held up between
   looking and taking may find a later phase with the same word: then it has taken a part of that one, and does it.

   What makes it safe:
   - share() writes `part` and `work`, and all that the parts read, before it stores `left` (release). A helper that has
     taken a part (acquire; exchanges carry a release on) sees it all.
   - share() does not end, and nothing of it is written again, before the parts that helpers took are counted in `done`
     (release; the caller's look is acquire). So it sees what helpers wrote, and so do all parts of later phases.
   - Who has no part touches nothing but this struct. It must live as long as a helper is in join(); the caller's own
     memory need not. The caller waits only for parts that some thread is working on, never for a thread to come or go.

   Who waits spins for some microseconds, then gives the CPU away each time: whoever else wants it has it. A helper that
   finds nothing for as long as its patience lasts leaves, whatever became of the caller.

   A team may also stand, for calls of any threads: who finds it free has it for one phase, see minnet_share_standing. */
#ifndef MINNET_TEAM_H
#define MINNET_TEAM_H

#include <stddef.h>
#include <stdint.h>
#ifdef __linux__
#include <sched.h>
#endif

/* The CPU that this thread runs on. */
static inline int minnet_cpu(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

typedef void (*minnet_part)(void* work, ptrdiff_t part);

enum {
    MINNET_APART = 128,   /* bytes: two lines of the cache, as CPUs fetch them in pairs */
    MINNET_MOST = 0x7fff, /* parts of a phase */
    MINNET_SPINS = 1000   /* 20 to 40 us */
};

#define MINNET_OVER UINT32_MAX /* `left` of a call that has ended: nothing to take, as the first is the end */

typedef struct {
    char before[MINNET_APART];
    uint32_t left;    /* what a helper reads when it takes a part, side by side */
    minnet_part part;
    void* work;
    uint32_t dismissals; /* of a team that stands */
    char between[MINNET_APART];
    uint32_t done;    /* parts of this phase, by helpers */
    uint32_t helpers; /* that are here */
    int32_t expected; /* that were called to a team that stands, and have not left it */
    uint32_t taken;   /* by a caller of minnet_share_standing */
    char after[MINNET_APART];
} minnet_team;

#if defined(__GNUC__) && !defined(_WIN32)
#include <sched.h>
#include <time.h>

static inline void minnet_wait(ptrdiff_t round)
{
    if (round >= MINNET_SPINS)
        sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Take a part, the first or the last; -1 if there is none. */
static inline ptrdiff_t minnet_take(minnet_team* team, int last)
{
    uint32_t left = __atomic_load_n(&team->left, __ATOMIC_RELAXED);
    while ((left & 0xffff) < left >> 16) {
        uint32_t rest = last ? left - 0x10000 : left + 1;
        if (__atomic_compare_exchange_n(&team->left, &left, rest, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return last ? rest >> 16 : left & 0xffff;
    }
    return -1;
}

/* Whether helpers are here. */
static inline int minnet_helped(const minnet_team* team)
{
    return __atomic_load_n(&team->helpers, __ATOMIC_RELAXED) > 0;
}

/* Count so many more helpers as called; how many have been called and not left. */
static inline int32_t minnet_expect(minnet_team* team, int32_t more)
{
    return __atomic_add_fetch(&team->expected, more, __ATOMIC_RELAXED);
}

/* Do all parts of a phase, with whoever is here or comes meanwhile. */
static inline void minnet_share_out(minnet_team* team, minnet_part part, void* work, ptrdiff_t parts)
{
    ptrdiff_t i, own = 0;
    team->part = part;
    team->work = work;
    __atomic_store_n(&team->done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&team->left, (uint32_t)parts << 16, __ATOMIC_RELEASE);
    for (; (i = minnet_take(team, 0)) >= 0; own++)
        part(work, i);
    for (i = 0; __atomic_load_n(&team->done, __ATOMIC_ACQUIRE) != (uint32_t)(parts - own); i++)
        minnet_wait(i);
}

/* Do all parts of a phase, with the helpers that are here. */
static inline void minnet_share(minnet_team* team, minnet_part part, void* work, ptrdiff_t parts)
{
    ptrdiff_t i;
    if (parts > 1 && parts <= MINNET_MOST && minnet_helped(team)) {
        minnet_share_out(team, part, work, parts);
        return;
    }
    for (i = 0; i < parts; i++)
        part(work, i);
}

/* Do all parts of a phase that is long enough to share it with helpers who may come while it lasts. The team stands, for
   calls of any thread: one of them has it, others work alone meanwhile, and so does a caller without a team, NULL. */
static inline void minnet_share_standing(minnet_team* team, minnet_part part, void* work, ptrdiff_t parts)
{
    ptrdiff_t i;
    if (parts > 1 && parts <= MINNET_MOST && team && !__atomic_exchange_n(&team->taken, 1, __ATOMIC_ACQUIRE)) {
        minnet_share_out(team, part, work, parts);
        __atomic_store_n(&team->taken, 0, __ATOMIC_RELEASE);
        return;
    }
    for (i = 0; i < parts; i++)
        part(work, i);
}

static inline int64_t minnet_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Let helpers of a team that stands go, when they have done what there is: other work of the pool waits for them. */
static inline void minnet_dismiss(minnet_team* team)
{
    __atomic_fetch_add(&team->dismissals, 1, __ATOMIC_RELAXED);
}

/* Helpers that are called now leave when there is another number. */
static inline uint32_t minnet_dismissals(const minnet_team* team)
{
    return __atomic_load_n(&team->dismissals, __ATOMIC_RELAXED);
}

/* Help until the call ends, or helpers were dismissed, or nothing was to be done for `patience` nanoseconds, or `stay` are
   over: the end of the process waits for that. How many parts it were. */
static inline ptrdiff_t minnet_join(minnet_team* team, int64_t patience, int64_t stay, uint32_t dismissals)
{
    int64_t now = 0, late = 0, end = minnet_now() + stay;
    ptrdiff_t round, i, own = 0;
    __atomic_fetch_add(&team->helpers, 1, __ATOMIC_RELAXED);
    for (round = 0; __atomic_load_n(&team->left, __ATOMIC_RELAXED) != MINNET_OVER; round++) {
        for (; (i = minnet_take(team, 1)) >= 0; own++) {
            team->part(team->work, i);
            __atomic_fetch_add(&team->done, 1, __ATOMIC_RELEASE);
            round = 0;
        }
        if (minnet_dismissals(team) != dismissals)
            break;
        if (round == 0 || round >= MINNET_SPINS)
            now = minnet_now();
        if (round == 0)
            late = now + patience;
        if (now >= late || now >= end)
            break;
        minnet_wait(round);
    }
    __atomic_fetch_sub(&team->helpers, 1, __ATOMIC_RELAXED);
    minnet_expect(team, -1);
    return own;
}

static inline void minnet_end(minnet_team* team)
{
    __atomic_store_n(&team->left, MINNET_OVER, __ATOMIC_RELAXED);
}

#else /* no such atomics: helpers leave at once */
static inline int minnet_helped(const minnet_team* team)
{
    (void)team;
    return 0;
}

static inline int32_t minnet_expect(minnet_team* team, int32_t more)
{
    (void)team;
    return more;
}

static inline void minnet_share(minnet_team* team, minnet_part part, void* work, ptrdiff_t parts)
{
    ptrdiff_t i;
    (void)team;
    for (i = 0; i < parts; i++)
        part(work, i);
}

static inline void minnet_share_standing(minnet_team* team, minnet_part part, void* work, ptrdiff_t parts)
{
    minnet_share(team, part, work, parts);
}

static inline void minnet_dismiss(minnet_team* team)
{
    (void)team;
}

static inline uint32_t minnet_dismissals(const minnet_team* team)
{
    (void)team;
    return 0;
}

static inline ptrdiff_t minnet_join(minnet_team* team, int64_t patience, int64_t stay, uint32_t dismissals)
{
    (void)team;
    (void)patience;
    (void)stay;
    (void)dismissals;
    return 0;
}

static inline void minnet_end(minnet_team* team)
{
    (void)team;
}
#endif

#endif
