/*
 * The most this processor's vector units can do in one thread, the yardstick for the kernel's speed: int8_peak() and
 * float32_peak() in 10^9 operations per CPU second, 0 where the instructions are missing. Compiled when asked for:
 *
 *     gcc -O2 -shared -fPIC tests/native/peak.c -o peak.so
 */
#include <stdint.h>
#include <time.h>

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#define REPEATS 1000000

#if defined(__x86_64__)
#define PEAK(target_name, type, instruction, register_name, operations)                                              \
    static __attribute__((target(target_name), noinline)) double type##_rate(void) {                                 \
        double begin = cpu_seconds();                                                                                 \
        for (int i = 0; i < REPEATS; i++)                                                                             \
            __asm__ volatile(EACH(instruction, register_name)::: CLOBBER);                                            \
        return 12.0 * REPEATS * (operations) / (cpu_seconds() - begin) / 1e9;                                         \
    }
#define ONE(instruction, r, n) instruction " %%" r "31, %%" r "30, %%" r #n "\n\t"
#define EACH(instruction, r)                                                                                          \
    ONE(instruction, r, 0) ONE(instruction, r, 1) ONE(instruction, r, 2) ONE(instruction, r, 3)                      \
    ONE(instruction, r, 4) ONE(instruction, r, 5) ONE(instruction, r, 6) ONE(instruction, r, 7)                      \
    ONE(instruction, r, 8) ONE(instruction, r, 9) ONE(instruction, r, 10) ONE(instruction, r, 11)
#define CLOBBER "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
PEAK("avx512vnni", int8, "vpdpbusd", "zmm", 128)
PEAK("avx512f", float32, "vfmadd231ps", "zmm", 32)

double int8_peak(void) { return __builtin_cpu_supports("avx512vnni") ? int8_rate() : 0; }
double float32_peak(void) { return __builtin_cpu_supports("avx512f") ? float32_rate() : 0; }
#else
double int8_peak(void) { return 0; }
double float32_peak(void) { return 0; }
#endif
