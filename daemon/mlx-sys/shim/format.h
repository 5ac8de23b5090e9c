// Included before every mlx-c source. mlx-c calls std::format, which GCC 12 does not have; fmt's does the same.
#pragma once
#include <version>
#ifndef __cpp_lib_format
#define FMT_HEADER_ONLY
#include <fmt/format.h>
namespace std {
using fmt::format;
}
#endif

// mlx-c declares the half-precision accessors on ARM only, and mlx-rs imports them everywhere. The bits are all that they move.
#if !defined(__aarch64__) && !defined(__ARM_FEATURE_FP16_SCALAR_ARITHMETIC)
#include <stdint.h>
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef struct {
  uint16_t bits;
} float16_t;
typedef struct {
  uint16_t bits;
} bfloat16_t;
#endif
