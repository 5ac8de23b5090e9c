// Chooses the BLAS of one stream, by a task on the thread that computes it.
#include "mlx/c/private/stream.h"
#include "mlx/scheduler.h"

extern "C" {
void demolish_blas_use_here(bool yes);

int demolish_blas_use(const mlx_stream stream, bool openblas) {
  try {
    mlx::core::scheduler::enqueue(mlx_stream_get_(stream), [openblas] { demolish_blas_use_here(openblas); });
  } catch (std::exception&) {
    return 1;
  }
  return 0;
}
}
