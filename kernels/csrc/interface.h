// What Python calls, by ctypes: plain C, so that the libraries depend on no version of torch.
// kernels/native.py mirrors these structures; every function returns 0, or what went wrong.
#pragma once

#include <cstdint>

#include "arithmetic.h"

namespace restyle {

enum DType : std::int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat64 = 2, kFloat16 = 3 };
enum Status : std::int32_t { kDone = 0, kUnknownDType = -1, kTooLarge = -2 };

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

// A GPU adds up a gradient's sums in so many parts for each image.
constexpr int kParts = 32;

// The gradients of an Epilogue without style, from that of its output: with respect to x, and in
// the compute type of demodulation [batch, channels], strength [1] and bias [channels]. `scratch`
// holds [3 * batch * kParts + 1, channels] of the compute type, for the GPU's use.
struct EpilogueGradient {
  Epilogue forward;
  const void* gradient;
  void* x;
  void* demodulation;
  void* strength;
  void* bias;
  void* scratch;
};

// What follows a convolution when nothing has to be differentiated: rows [first, first + rows) of a
// styled layer, channels last. `x` is [batch, rows + halo, width, channels], one after another; `y`
// points at row `first` of the first image, and image b is b * y_stride values further on.
struct Layer {
  std::int32_t dtype;
  const void* x;
  void* y;
  const void* demodulation;
  const void* noise;  // [height, columns] of the whole layer
  const void* strength;
  const void* bias;
  const void* style;  // of the layer that reads y; may be null
  std::int64_t batch, channels, first, rows, columns, y_stride;
};

// Smooths a transposed convolution's output, then goes on as an Epilogue does. Output row r and
// column q see rows r + 1 to r + 4 of x, which has rows + 5 of them, and columns q - 1 to q + 2 of
// x, which has columns + 1. The filter is the outer product of two of four taps.
struct BlurLayer {
  Layer layer;
  const void* vertical;
  const void* horizontal;
};

// An Epilogue whose result is also projected to colour and added to the enlarged image of the
// layers below. `y` may be null. `image` is [batch, 3, height, columns] of the compute type,
// `skip`, which may be null, [batch, 3, height / 2, columns / 2].
struct ToRgbLayer {
  Layer layer;
  const void* weight;  // [batch, 3, channels], modulated
  const void* rgb_bias;
  const void* skip;
  const void* vertical;
  const void* horizontal;
  void* image;
  std::int64_t height;
};

// What follows a convolution of the encoder, channels last and in place: x = leaky(x + bias) with a
// slope for each channel, which may be null for none. With `edges`, `bias` is [4, 4, channels]: of the
// pixels whose row (first index) and column lie inside, first, last, and both first and last.
struct Activation {
  std::int32_t dtype;
  std::int32_t edges;
  void* x;
  const void* bias;
  const void* slope;
  std::int64_t batch, channels, rows, columns;
};

// Squeeze-and-excitation's factors of x + bias, channels last: y = sigmoid(up relu(down mean)).
// Vectors are in the compute type: `down` is [hidden, channels], `up` [hidden, channels] as well, y
// [batch, channels]. `scratch` holds [batch, kParts, channels].
struct Excitation {
  std::int32_t dtype;
  const void* x;
  const void* bias;
  const void* down;
  const void* up;
  void* y;
  void* scratch;
  std::int64_t batch, channels, pixels, hidden;
};

// The end of a residual unit, channels last and in place: x = (x + bias) * excitation + shortcut +
// shortcut_bias, of which negative values are zero if it `cuts`. The shortcut's images, rows and
// columns are so many values apart. `excitation` [batch, channels] and `shortcut_bias` may be null.
struct Residual {
  std::int32_t dtype;
  std::int32_t cuts;
  void* x;
  const void* shortcut;
  const void* bias;
  const void* shortcut_bias;
  const void* excitation;
  std::int64_t batch, channels, rows, columns, image_stride, row_stride, column_stride;
};

// A 3x3 convolution, channels last. `x` is [batch, rows, columns, in], image b is b * x_stride
// values further on; `y` is [batch, y_rows, y_columns, out]. The stride is 1, with one column of
// padding to the left and right, `above` rows, 0 or 1, above and below; or, if it `doubles`, it is
// the transposed convolution with stride 2, which has 2 rows + 1 and 2 columns + 1, `above` is 1.
// `weight` is [out / panel, products, in / t, panel, t], of transformed filters, where t values are
// as wide as a float and products are 16, or 25 if it doubles; `in` is a multiple of 16, `panel` is
// 32 or 64. The others are float32 and may be null: `bias` and the leaky ReLU's `slope` are [out],
// `padding` [in] has the values outside, which are 0 else.
struct Winograd {
  std::int32_t dtype;
  const void* x;
  void* y;
  const void* weight;
  const void* bias;
  const void* slope;
  const void* padding;
  std::int64_t doubles, batch, in, out, panel, rows, columns, y_rows, y_columns, above, x_stride;
};

// A convolution that is a ToRgbLayer's, for all of its rows, with `in`, `out`, `weight` and `x` of
// the first; of the second all but `x`, which is never stored.
struct ToRgbConvolution {
  Winograd convolution;
  ToRgbLayer to_rgb;
};

}  // namespace restyle
