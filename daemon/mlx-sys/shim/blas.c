// Which BLAS MLX multiplies with.
//
// libmlx calls one function for fp32 matrix products, cblas_sgemm, and its wheel brings the reference implementation (about
// 2 GFLOP/s). This library stands before it in the order of symbol look-up, so that MLX calls the function below, which passes
// the call on: to the wheel's own BLAS, whose results are Python's to the last bit, or to the system's OpenBLAS, which is 20 to
// 40 times faster and rounds differently.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef void (*sgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*threads_fn)(int threads);

static _Atomic(sgemm_fn) reference;
static _Atomic(sgemm_fn) openblas;
static _Atomic(threads_fn) set_threads;
static atomic_bool use_openblas;

void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
  sgemm_fn sgemm = atomic_load(&use_openblas) ? atomic_load(&openblas) : NULL;
  if (!sgemm) {
    sgemm = atomic_load(&reference);
  }
  if (!sgemm) {
    sgemm = (sgemm_fn)dlsym(RTLD_NEXT, "cblas_sgemm");
    atomic_store(&reference, sgemm);
  }
  sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

// RTLD_LOCAL keeps OpenBLAS's own LAPACK and Fortran symbols away from libmlx.
bool demolish_blas_load(void) {
  if (atomic_load(&openblas)) {
    return true;
  }
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    return false;
  }
  atomic_store(&set_threads, (threads_fn)dlsym(library, "openblas_set_num_threads"));
  atomic_store(&openblas, (sgemm_fn)dlsym(library, "cblas_sgemm"));
  return atomic_load(&openblas) != NULL;
}

void demolish_blas_use(bool yes) { atomic_store(&use_openblas, yes); }

void demolish_blas_threads(int threads) {
  threads_fn set = atomic_load(&set_threads);
  if (set) {
    set(threads);
  }
}

// mlx-rs seeds its random numbers with Darwin's clock.
uint64_t mach_approximate_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
