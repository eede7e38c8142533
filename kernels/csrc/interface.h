// What Python calls, by ctypes: plain C, so that the libraries depend on no version of torch.
// kernels/native.py mirrors these structures; every function returns 0, or what went wrong.
#pragma once

#include <cstdint>

#include "arithmetic.h"

namespace restyle {

enum DType : std::int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat64 = 2, kFloat16 = 3 };
enum Status : std::int32_t { kDone = 0, kUnknownDType = -1 };

// y = upfirdn2d(x). Tensors are [batch, rows, columns, channels] in memory; a planar tensor is one
// with a single channel and batch * channels images. `fir` is [vertical.taps, horizontal.taps] in
// the compute type of `dtype`.
struct Upfirdn {
  std::int32_t dtype;
  const void* x;
  void* y;
  const void* fir;
  std::int64_t batch, channels;
  Axis vertical, horizontal;
};

// y = leaky(gain * (x * demodulation + strength * noise + bias)) * style, where x and y are
// [batch, channels, pixels] in memory, or [batch, pixels, channels] with channels_last. Vectors are
// in the compute type; demodulation and style are [batch, channels], style may be null, noise is
// [batch or 1, pixels].
struct Epilogue {
  std::int32_t dtype;
  std::int32_t channels_last;
  std::int32_t noise_per_image;
  const void* x;
  void* y;
  const void* demodulation;
  const void* noise;
  const void* strength;
  const void* bias;
  const void* style;
  std::int64_t batch, channels, pixels;
};

// The gradients of an Epilogue without style, from that of its output: with respect to x, and in
// the compute type of demodulation [batch, channels], strength [1] and bias [channels]. `scratch`
// holds [channels] of the compute type, for the GPU's use.
struct EpilogueGradient {
  Epilogue forward;
  const void* gradient;
  void* x;
  void* demodulation;
  void* strength;
  void* bias;
  void* scratch;
};

}  // namespace restyle
