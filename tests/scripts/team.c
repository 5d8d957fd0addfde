/* Tiny phases, many threads: every part is done once, and sees all that was written before it.
   team ROUNDS PHASES: prints "same" if 2 to 8 threads leave what one thread leaves, and so do callers of a team that
   stands, each for itself, whose helpers come and go. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_team.h"

enum { N = 64 };

typedef struct {
    const long* from;
    long* to;
    ptrdiff_t parts;
} Phase;

/* Each number follows from all of the phase before and from what it was: a part left out or done twice shows. */
static void one_part(void* work, ptrdiff_t i)
{
    const Phase* phase = work;
    long sum = 0;
    ptrdiff_t j;
    for (j = 0; j < N; j++)
        sum += phase->from[j];
    phase->to[i] = (sum + i + 3 * phase->to[i]) % 1000003;
}

static void* help(void* team)
{
    minnet_join(team, 100000000, INT64_MAX / 2, 0);
    return NULL;
}

static void run(int threads, int phases, unsigned seed, long* numbers)
{
    minnet_team* team = calloc(1, sizeof *team);
    pthread_t helpers[8];
    int i;
    for (i = 0; i < 2 * N; i++)
        numbers[i] = i;
    for (i = 1; i < threads; i++)
        pthread_create(&helpers[i], NULL, help, team);
    for (i = 0; i < phases; i++) {
        Phase phase = {numbers + i % 2 * N, numbers + (i + 1) % 2 * N, 0};
        seed = seed * 1664525u + 1013904223u;
        phase.parts = (seed >> 16) % (N + 1);
        minnet_share(team, one_part, &phase, phase.parts);
        memset(&phase, 0, sizeof phase); /* whoever still read it would crash */
    }
    minnet_end(team);
    for (i = 1; i < threads; i++)
        pthread_join(helpers[i], NULL);
    free(team);
}

typedef struct {
    minnet_team* team;
    int phases;
    unsigned seed;
    long numbers[2 * N];
} Caller;

static void* call(void* argument)
{
    Caller* caller = argument;
    unsigned seed = caller->seed;
    int i;
    for (i = 0; i < 2 * N; i++)
        caller->numbers[i] = i;
    for (i = 0; i < caller->phases; i++) {
        Phase phase = {caller->numbers + i % 2 * N, caller->numbers + (i + 1) % 2 * N, 0};
        seed = seed * 1664525u + 1013904223u;
        phase.parts = (seed >> 16) % (N + 1);
        minnet_share_standing(caller->team, one_part, &phase, phase.parts);
        if (caller->team && i % 16 == 0)
            minnet_dismiss(caller->team);
        memset(&phase, 0, sizeof phase);
    }
    return NULL;
}

static void* come_and_go(void* team)
{
    while (__atomic_load_n(&((minnet_team*)team)->left, __ATOMIC_RELAXED) != MINNET_OVER)
        minnet_join(team, 1000, 100000, minnet_dismissals(team));
    return NULL;
}

/* Whether callers at the same time leave what each of them leaves alone. */
static int stand(int callers, int helpers, int phases, unsigned seed)
{
    minnet_team* team = calloc(1, sizeof *team);
    Caller crew[4], alone;
    pthread_t threads[4], helping[4];
    int i, same = 1;
    for (i = 0; i < helpers; i++)
        pthread_create(&helping[i], NULL, come_and_go, team);
    for (i = 0; i < callers; i++) {
        crew[i].team = team;
        crew[i].phases = phases;
        crew[i].seed = seed + i;
        pthread_create(&threads[i], NULL, call, &crew[i]);
    }
    for (i = 0; i < callers; i++) {
        pthread_join(threads[i], NULL);
        alone = crew[i];
        alone.team = NULL;
        call(&alone);
        same = same && !memcmp(alone.numbers, crew[i].numbers, sizeof alone.numbers);
    }
    minnet_end(team);
    for (i = 0; i < helpers; i++)
        pthread_join(helping[i], NULL);
    free(team);
    return same;
}

int main(int count, char** arguments)
{
    int rounds = count > 2 ? atoi(arguments[1]) : 1, phases = count > 2 ? atoi(arguments[2]) : 1000, round;
    long alone[2 * N], together[2 * N];
    for (round = 0; round < rounds; round++) {
        run(1, phases, round, alone);
        run(2 + round % 7, phases, round, together);
        if (memcmp(alone, together, sizeof alone) || !stand(1 + round % 4, 1 + round % 3, phases / 2, round)) {
            printf("different: round %d\n", round);
            return 1;
        }
    }
    puts("same");
    return 0;
}
