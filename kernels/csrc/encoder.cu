// What stands between the encoder's convolutions on GPUs, channels last. Bias, border and PReLU are
// one pass, squeeze-and-excitation's factors are two small kernels, and the rest of a unit is one.
#include "walk.cuh"

namespace restyle {
namespace {

// Channels of which a block holds the means.
constexpr int kMostChannels = 2048;

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) activate(Activation p, Strips strips) {
  using A = compute_t<T>;
  const Strips::Place at = strips.place();
  if (!at.inside) return;
  const int channels = static_cast<int>(p.channels), columns = static_cast<int>(p.columns);
  const int rows = static_cast<int>(p.rows), groups = channels / V;
  const int c = at.item % groups * V, column = at.item / groups;
  const int across = p.edges ? (column == 0 ? 1 : 0) + (column == columns - 1 ? 2 : 0) : 0;
  A inside[V], slope[V];
  vector_of<V>(p.bias, across * channels + c, A(1), A(0), inside);
  vector_of<V>(p.slope, c, A(1), A(1), slope);
  const int pitch = columns * channels;
  T* x = static_cast<T*>(p.x) + (at.image * rows + at.first) * pitch + column * channels + c;
  for (int row = at.first; row < at.end; ++row, x += pitch) {
    const int down = p.edges ? (row == 0 ? 1 : 0) + (row == rows - 1 ? 2 : 0) : 0;
    A bias[V];
#pragma unroll
    for (int i = 0; i < V; ++i) bias[i] = inside[i];
    if (down != 0) vector_of<V>(p.bias, (down * 4 + across) * channels + c, A(1), A(0), bias);
    const Values<T, V> seen = fetch<V>(x);
    A values[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A value = value_of(seen, i) + bias[i];
      values[i] = value > A(0) ? value : value * slope[i];
    }
    put(x, values);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) squeeze(Excitation p) {
  using A = compute_t<T>;
  const Planes planes{p.batch, p.channels, p.pixels};
  const Walk<V, true> walk(planes, kParts);
  A sums[V] = {};
  for (std::int64_t pixel = walk.first; pixel < walk.end; pixel += walk.step) {
    const Values<T, V> seen = fetch<V>(static_cast<const T*>(p.x) + walk.index(planes, pixel));
#pragma unroll
    for (int i = 0; i < V; ++i) sums[i] += value_of(seen, i);
  }
  add_up(planes, walk, sums, static_cast<A*>(p.scratch));
}

// One block for each image.
template <typename A>
__global__ void __launch_bounds__(kThreads) excite(Excitation p) {
  __shared__ A mean[kMostChannels];
  __shared__ A hidden[kMostChannels];
  const int channels = static_cast<int>(p.channels), inner = static_cast<int>(p.hidden);
  const std::int64_t image = blockIdx.x;
  const A* parts = static_cast<const A*>(p.scratch) + image * kParts * channels;
  for (int c = threadIdx.x; c < channels; c += kThreads) {
    A sum = 0;
    for (int part = 0; part < kParts; ++part) sum += parts[part * channels + c];
    mean[c] = sum / static_cast<A>(p.pixels) + static_cast<const A*>(p.bias)[c];
  }
  __syncthreads();
  for (int h = threadIdx.x / kWarp; h < inner; h += kThreads / kWarp) {
    const A* weight = static_cast<const A*>(p.down) + static_cast<std::int64_t>(h) * channels;
    A sum = 0;
    for (int c = threadIdx.x % kWarp; c < channels; c += kWarp) sum += weight[c] * mean[c];
    sum = warp_sum(sum);
    if (threadIdx.x % kWarp == 0) hidden[h] = sum > A(0) ? sum : A(0);
  }
  __syncthreads();
  for (int c = threadIdx.x; c < channels; c += kThreads) {
    A sum = 0;
    for (int h = 0; h < inner; ++h) sum += static_cast<const A*>(p.up)[h * channels + c] * hidden[h];
    static_cast<A*>(p.y)[image * channels + c] = A(1) / (A(1) + exp(-sum));
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) add_shortcut(Residual p, Strips strips) {
  using A = compute_t<T>;
  const Strips::Place at = strips.place();
  if (!at.inside) return;
  const int channels = static_cast<int>(p.channels), groups = channels / V;
  const int c = at.item % groups * V, column = at.item / groups;
  A factor[V], offset[V], bias[V];
  vector_of<V>(p.excitation, at.image * channels + c, A(1), A(1), factor);
  vector_of<V>(p.bias, c, A(1), A(0), bias);
  vector_of<V>(p.shortcut_bias, c, A(1), A(0), offset);
#pragma unroll
  for (int i = 0; i < V; ++i) offset[i] += bias[i] * factor[i];
  const int pitch = static_cast<int>(p.columns) * channels;
  T* x = static_cast<T*>(p.x) + (at.image * p.rows + at.first) * pitch + column * channels + c;
  const T* shortcut = static_cast<const T*>(p.shortcut) + at.image * p.image_stride +
                      at.first * p.row_stride + column * p.column_stride + c;
  for (int row = at.first; row < at.end; ++row, x += pitch, shortcut += p.row_stride) {
    const Values<T, V> seen = fetch<V>(x), other = fetch<V>(shortcut);
    A values[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A value = value_of(seen, i) * factor[i] + offset[i] + value_of(other, i);
      values[i] = p.cuts && value < A(0) ? A(0) : value;
    }
    put(x, values);
  }
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_activation(const Activation* p, cudaStream_t stream) {
  if (p->batch * p->rows * p->columns * p->channels == 0) return kDone;
  if (!Strips::fits(p->columns * p->channels, p->rows, p->batch)) return kTooLarge;
  return with_dtype(p->dtype, [&](auto type) {
    using T = decltype(type);
    with_pack<T>(p->channels % kPack<T> == 0 && aligned(p->x), [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      const Strips strips = Strips::of(p->columns * (p->channels / V), p->rows, p->batch, 1, 16);
      launch(activate<T, V>, strips.blocks(), stream, *p, strips);
    });
  });
}

RESTYLE_EXPORT std::int32_t restyle_excitation(const Excitation* p, cudaStream_t stream) {
  if (p->batch * p->pixels * p->channels == 0) return kDone;
  if (p->channels > kMostChannels || p->hidden > kMostChannels) return kTooLarge;
  return with_dtype(p->dtype, [&](auto type) {
    using T = decltype(type);
    with_pack<T>(p->channels % kPack<T> == 0 && aligned(p->x), [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      const Planes planes{p->batch, p->channels, p->pixels};
      launch(squeeze<T, V>, Walk<V, true>::blocks(planes, kParts), stream, *p);
    });
    launch(excite<compute_t<T>>, p->batch, stream, *p);
  });
}

RESTYLE_EXPORT std::int32_t restyle_residual(const Residual* p, cudaStream_t stream) {
  if (p->batch * p->rows * p->columns * p->channels == 0) return kDone;
  if (!Strips::fits(p->columns * p->channels, p->rows, p->batch)) return kTooLarge;
  return with_dtype(p->dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int kFull = kPack<T>;
    const bool packed = p->channels % kFull == 0 && p->image_stride % kFull == 0 &&
                        p->row_stride % kFull == 0 && p->column_stride % kFull == 0 &&
                        aligned(p->x) && aligned(p->shortcut);
    with_pack<T>(packed, [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      const Strips strips = Strips::of(p->columns * (p->channels / V), p->rows, p->batch, 1, 16);
      launch(add_shortcut<T, V>, strips.blocks(), stream, *p, strips);
    });
  });
}

}  // namespace restyle
