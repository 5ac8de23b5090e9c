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
typedef void (*sgemv_fn)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                         float beta, float *y, int incy);
typedef void (*threads_fn)(int threads);

static _Atomic(sgemm_fn) reference;
static _Atomic(sgemm_fn) openblas;
static _Atomic(sgemv_fn) openblas_sgemv;
static _Atomic(threads_fn) set_threads;
// Per thread: MLX computes each stream on a thread of its own, so each model chooses for itself.
static _Thread_local bool use_openblas;
static atomic_int threads_max = 1;

// One row times a matrix of n rows of k: what decoding a token consists of. OpenBLAS packs both sides even for a single row, or
// wakes its threads for some microseconds of work; dot products straight from memory are faster.
typedef float lanes __attribute__((vector_size(64), aligned(4)));
enum { LANES = 16 };

static float sum(const lanes *v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) {
    total += (*v)[i];
  }
  return total;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx512f", "avx2,fma", "default")))
#endif
static void row_times_rows(int n, int k, float alpha, const float *x, const float *w, int ldw, float beta, float *y) {
  int row = 0;
  for (; row + 4 <= n; row += 4) {
    const float *w0 = w + (size_t)row * ldw, *w1 = w0 + ldw, *w2 = w1 + ldw, *w3 = w2 + ldw;
    lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int i = 0;
    for (; i + LANES <= k; i += LANES) {
      lanes v = *(const lanes *)(x + i);
      s0 += v * *(const lanes *)(w0 + i);
      s1 += v * *(const lanes *)(w1 + i);
      s2 += v * *(const lanes *)(w2 + i);
      s3 += v * *(const lanes *)(w3 + i);
    }
    float t0 = sum(&s0), t1 = sum(&s1), t2 = sum(&s2), t3 = sum(&s3);
    for (; i < k; i++) {
      t0 += x[i] * w0[i];
      t1 += x[i] * w1[i];
      t2 += x[i] * w2[i];
      t3 += x[i] * w3[i];
    }
    float *out = y + row;
    out[0] = alpha * t0 + (beta == 0 ? 0 : beta * out[0]);
    out[1] = alpha * t1 + (beta == 0 ? 0 : beta * out[1]);
    out[2] = alpha * t2 + (beta == 0 ? 0 : beta * out[2]);
    out[3] = alpha * t3 + (beta == 0 ? 0 : beta * out[3]);
  }
  for (; row < n; row++) {
    const float *w0 = w + (size_t)row * ldw;
    float total = 0;
    for (int i = 0; i < k; i++) {
      total += x[i] * w0[i];
    }
    y[row] = alpha * total + (beta == 0 ? 0 : beta * y[row]);
  }
}

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

// Below so many multiplications one thread is done before OpenBLAS has woken the others, whose waiting (by sched_yield) also takes
// time from everybody else: a language server, for example.
enum { ALONE_MAX = 1 << 26, ALONE_ROW_MAX = 1 << 22 };

static void with_threads(int threads) {
  threads_fn set = atomic_load(&set_threads);
  if (set) {
    set(threads);
  }
}

void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
  sgemm_fn sgemm = use_openblas ? atomic_load(&openblas) : NULL;
  if (!sgemm) {
    sgemm = atomic_load(&reference);
    if (!sgemm) {
      sgemm = (sgemm_fn)dlsym(RTLD_NEXT, "cblas_sgemm");
      atomic_store(&reference, sgemm);
    }
    sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return;
  }
  int64_t matrix = (int64_t)n * k;
  bool is_row = m == 1 && (trans_a == NO_TRANS || lda == 1) && trans_b == TRANS && order == ROW_MAJOR;
  if (is_row && matrix <= ALONE_ROW_MAX) {
    row_times_rows(n, k, alpha, a, b, ldb, beta, c);
    return;
  }
  sgemv_fn sgemv = atomic_load(&openblas_sgemv);
  if (is_row && sgemv) {
    with_threads(atomic_load(&threads_max));
    sgemv(ROW_MAJOR, NO_TRANS, n, k, alpha, b, ldb, a, 1, beta, c, 1);
    return;
  }
  with_threads(m * matrix <= ALONE_MAX ? 1 : atomic_load(&threads_max));
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
  atomic_store(&openblas_sgemv, (sgemv_fn)dlsym(library, "cblas_sgemv"));
  atomic_store(&openblas, (sgemm_fn)dlsym(library, "cblas_sgemm"));
  return atomic_load(&openblas) != NULL;
}

void demolish_blas_use_here(bool yes) { use_openblas = yes; }

void demolish_blas_threads(int threads) { atomic_store(&threads_max, threads); }

// mlx-rs seeds its random numbers with Darwin's clock.
uint64_t mach_approximate_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
