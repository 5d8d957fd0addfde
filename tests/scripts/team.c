/* Tiny phases, many threads: every part is done once, and sees all that was written before it.
   team ROUNDS PHASES: prints "same" if 2 to 8 threads leave what one thread leaves. */
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
    minnet_join(team);
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

int main(int count, char** arguments)
{
    int rounds = count > 2 ? atoi(arguments[1]) : 1, phases = count > 2 ? atoi(arguments[2]) : 1000, round;
    long alone[2 * N], together[2 * N];
    for (round = 0; round < rounds; round++) {
        run(1, phases, round, alone);
        run(2 + round % 7, phases, round, together);
        if (memcmp(alone, together, sizeof alone)) {
            printf("different: round %d\n", round);
            return 1;
        }
    }
    puts("same");
    return 0;
}
