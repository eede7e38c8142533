// The layers of inference on GPUs. Channels are innermost, so neighbouring threads take neighbouring
// channels of one pixel.
#include "cuda.cuh"

namespace restyle {
namespace {

// What follows the convolution at one value.
template <typename A>
__device__ A layer_value(const Layer& p, A x, std::int64_t image, std::int64_t pixel,
                         std::int64_t c) {
  const A strength = *static_cast<const A*>(p.strength) * A(kGain);
  const A noise = static_cast<const A*>(p.noise)[p.first * p.columns + pixel] * strength;
  const A factor = static_cast<const A*>(p.demodulation)[image * p.channels + c] * A(kGain);
  return styled(x, factor, noise + static_cast<const A*>(p.bias)[c] * A(kGain));
}

template <typename T, typename A>
__device__ void keep(const Layer& p, A value, std::int64_t image, std::int64_t pixel,
                     std::int64_t c) {
  if (p.y == nullptr) return;
  if (p.style != nullptr) value *= static_cast<const A*>(p.style)[image * p.channels + c];
  store(static_cast<T*>(p.y) + image * p.y_stride + pixel * p.channels + c, value);
}

// Blocks take rows, so that no thread divides by anything but the number of channels, in 32 bits:
// divisions of 64 bits would take longer than reading memory does.
template <typename T>
__global__ void blur_layer(BlurLayer q) {
  using A = compute_t<T>;
  const Layer& p = q.layer;
  const A *down = static_cast<const A*>(q.vertical), *along = static_cast<const A*>(q.horizontal);
  const int channels = static_cast<int>(p.channels), columns = static_cast<int>(p.columns);
  const int width = columns + 1, values = columns * channels;
  const std::int64_t next = static_cast<std::int64_t>(width) * channels;
  for (std::int64_t at = blockIdx.x; at < p.batch * p.rows; at += gridDim.x) {
    const std::int64_t image = at / p.rows, row = at % p.rows;
    const T* above = static_cast<const T*>(p.x) + (image * (p.rows + 5) + row + 1) * next;
    for (int i = threadIdx.x; i < values; i += blockDim.x) {
      const int column = i / channels, c = i % channels;
      A seen[4];
      for (int k = 0; k < 4; ++k) {
        const int from = column - 1 + k;
        seen[k] = 0;
        if (from < 0 || from >= width) continue;
        const T* x = above + static_cast<std::int64_t>(from) * channels + c;
        seen[k] = four_taps(down, load(x), load(x + next), load(x + 2 * next), load(x + 3 * next));
      }
      const A smooth = four_taps(along, seen[0], seen[1], seen[2], seen[3]);
      const std::int64_t pixel = row * columns + column;
      keep<T>(p, layer_value(p, smooth, image, pixel, c), image, pixel, c);
    }
  }
}

template <typename A>
__device__ A enlarged_skip(const ColourLayer& q, std::int64_t plane, std::int64_t row,
                           std::int64_t column) {
  const std::int64_t height = q.height / 2, width = q.layer.columns / 2;
  const Pair<A> v = enlarged(static_cast<const A*>(q.vertical), row);
  const Pair<A> h = enlarged(static_cast<const A*>(q.horizontal), column);
  const A* skip = static_cast<const A*>(q.skip) + plane * height * width;
  A sum = 0;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      const std::int64_t y = v.index + i, x = h.index + j;
      if (y < 0 || y >= height || x < 0 || x >= width) continue;
      sum += (i ? v.second : v.first) * (j ? h.second : h.first) * skip[y * width + x];
    }
  return sum;
}

// Blocks take rows, and a warp a pixel of them: its threads share the channels and then add up the
// three colours.
template <typename T>
__global__ void colour_layer(ColourLayer q) {
  using A = compute_t<T>;
  const Layer& p = q.layer;
  const int channels = static_cast<int>(p.channels), columns = static_cast<int>(p.columns);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  for (std::int64_t at = blockIdx.x; at < p.batch * p.rows; at += gridDim.x) {
    const std::int64_t image = at / p.rows, row = at % p.rows;
    const A* weight = static_cast<const A*>(q.weight) + image * 3 * channels;
    for (int column = warp; column < columns; column += warps) {
      const std::int64_t pixel = row * columns + column;
      const T* x = static_cast<const T*>(p.x) + (at * columns + column) * channels;
      A sums[3] = {0, 0, 0};
      for (int c = lane; c < channels; c += kWarp) {
        const A value = layer_value(p, static_cast<A>(load(x + c)), image, pixel, c);
        keep<T>(p, value, image, pixel, c);
        for (int k = 0; k < 3; ++k) sums[k] += value * weight[k * channels + c];
      }
      for (int k = 0; k < 3; ++k)
        for (int offset = kWarp / 2; offset > 0; offset /= 2)
          sums[k] += __shfl_down_sync(0xffffffffu, sums[k], offset);
      if (lane != 0) continue;
      for (int k = 0; k < 3; ++k) {
        const std::int64_t plane = image * 3 + k;
        A value = sums[k] + static_cast<const A*>(q.colour_bias)[k];
        if (q.skip != nullptr) value += enlarged_skip<A>(q, plane, p.first + row, column);
        static_cast<A*>(q.image)[(plane * q.height + p.first + row) * columns + column] = value;
      }
    }
  }
}

// Rows of no more values than an int counts.
bool fits(const Layer& p) {
  return p.channels <= INT32_MAX / (p.columns + kThreads);
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_blur_layer(const BlurLayer* q, cudaStream_t stream) {
  const Layer& p = q->layer;
  const std::int64_t rows = p.batch * p.rows;
  if (rows == 0) return kDone;
  if (!fits(p)) return kTooLarge;
  return with_dtype(p.dtype, [&](auto type) {
    launch(blur_layer<decltype(type)>, most_blocks(rows), stream, *q);
  });
}

RESTYLE_EXPORT std::int32_t restyle_colour_layer(const ColourLayer* q, cudaStream_t stream) {
  const Layer& p = q->layer;
  const std::int64_t rows = p.batch * p.rows;
  if (rows == 0) return kDone;
  if (!fits(p)) return kTooLarge;
  return with_dtype(p.dtype, [&](auto type) {
    launch(colour_layer<decltype(type)>, most_blocks(rows), stream, *q);
  });
}

}  // namespace restyle
