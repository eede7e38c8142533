// The operators on GPUs: each thread computes outputs by the functions of arithmetic.h that the CPU
// library computes them by.
#include "cuda.cuh"

namespace restyle {
namespace {

template <typename T>
__global__ void upfirdn(Upfirdn p) {
  using A = compute_t<T>;
  const Axis &v = p.vertical, &h = p.horizontal;
  const A* fir = static_cast<const A*>(p.fir);
  const std::int64_t count = p.batch * v.out * h.out * p.channels;
  for (std::int64_t at = first_index(); at < count; at += stride()) {
    const std::int64_t c = at % p.channels, pixel = at / p.channels;
    const std::int64_t ox = pixel % h.out, row = pixel / h.out;
    const std::int64_t oy = row % v.out, image = row / v.out;
    const T* x = static_cast<const T*>(p.x) + image * v.in * h.in * p.channels + c;
    A sum = 0;
    for (std::int64_t ky = 0; ky < v.taps; ++ky) {
      const std::int64_t iy = source(v, oy, ky);
      if (iy < 0) continue;
      const A* factors = fir + (v.taps - 1 - ky) * h.taps;
      for (std::int64_t kx = 0; kx < h.taps; ++kx) {
        const std::int64_t ix = source(h, ox, kx);
        if (ix >= 0) sum += factors[h.taps - 1 - kx] * load(x + (iy * h.in + ix) * p.channels);
      }
    }
    store(static_cast<T*>(p.y) + at, sum);
  }
}

// Where a value lies: its image, channel and pixel.
struct Place {
  std::int64_t image, channel, pixel;
};

__device__ Place place(const Epilogue& p, std::int64_t at) {
  const std::int64_t inner = p.channels_last ? p.channels : p.pixels;
  const std::int64_t outer = p.channels_last ? p.pixels : p.channels;
  const std::int64_t low = at % inner, rest = at / inner;
  const std::int64_t high = rest % outer, image = rest / outer;
  return p.channels_last ? Place{image, low, high} : Place{image, high, low};
}

template <typename A>
__device__ A noise_at(const Epilogue& p, const Place& at) {
  const A* noise = static_cast<const A*>(p.noise);
  return noise[(p.noise_per_image ? at.image * p.pixels : 0) + at.pixel];
}

// The offset and the factor of a value, with the gain multiplied in.
template <typename A>
__device__ void terms(const Epilogue& p, const Place& at, A noise, A& factor, A& offset) {
  const A strength = *static_cast<const A*>(p.strength) * A(kGain);
  const A bias = static_cast<const A*>(p.bias)[at.channel] * A(kGain);
  factor = static_cast<const A*>(p.demodulation)[at.image * p.channels + at.channel] * A(kGain);
  offset = noise * strength + bias;
}

template <typename T>
__global__ void epilogue(Epilogue p) {
  using A = compute_t<T>;
  const std::int64_t count = p.batch * p.channels * p.pixels;
  for (std::int64_t i = first_index(); i < count; i += stride()) {
    const Place at = place(p, i);
    A factor, offset;
    terms(p, at, noise_at<A>(p, at), factor, offset);
    A y = styled(load(static_cast<const T*>(p.x) + i), factor, offset);
    if (p.style != nullptr)
      y *= static_cast<const A*>(p.style)[at.image * p.channels + at.channel];
    store(static_cast<T*>(p.y) + i, y);
  }
}

template <typename T>
__global__ void epilogue_to_x(EpilogueGradient q) {
  using A = compute_t<T>;
  const Epilogue& p = q.forward;
  const std::int64_t count = p.batch * p.channels * p.pixels;
  for (std::int64_t i = first_index(); i < count; i += stride()) {
    const Place at = place(p, i);
    A factor, offset;
    terms(p, at, noise_at<A>(p, at), factor, offset);
    const A value = load(static_cast<const T*>(p.x) + i) * factor + offset;
    const A gradient = leaky_gradient(load(static_cast<const T*>(q.gradient) + i), value);
    store(static_cast<T*>(q.x) + i, gradient * factor);
  }
}

// One block per channel, image after image: sums have one order and need no atomic additions.
// Each channel's part of the noise strength's gradient goes to `strengths`.
template <typename T>
__global__ void epilogue_to_vectors(EpilogueGradient q, compute_t<T>* strengths) {
  using A = compute_t<T>;
  const Epilogue& p = q.forward;
  const std::int64_t channel = blockIdx.x;
  A bias_sum = 0, strength_sum = 0;
  for (std::int64_t image = 0; image < p.batch; ++image) {
    A demodulation_sum = 0;
    for (std::int64_t pixel = threadIdx.x; pixel < p.pixels; pixel += blockDim.x) {
      const std::int64_t start = image * p.channels * p.pixels;
      const std::int64_t i = start + (p.channels_last ? pixel * p.channels + channel
                                                      : channel * p.pixels + pixel);
      const Place at{image, channel, pixel};
      const A noise = noise_at<A>(p, at);
      A factor, offset;
      terms(p, at, noise, factor, offset);
      const A x = load(static_cast<const T*>(p.x) + i);
      const A gradient =
          leaky_gradient(load(static_cast<const T*>(q.gradient) + i), x * factor + offset);
      demodulation_sum += gradient * x;
      bias_sum += gradient;
      strength_sum += gradient * noise;
    }
    demodulation_sum = block_sum(demodulation_sum);
    if (threadIdx.x == 0)
      static_cast<A*>(q.demodulation)[image * p.channels + channel] = demodulation_sum * A(kGain);
  }
  bias_sum = block_sum(bias_sum);
  strength_sum = block_sum(strength_sum);
  if (threadIdx.x == 0) {
    static_cast<A*>(q.bias)[channel] = bias_sum * A(kGain);
    strengths[channel] = strength_sum * A(kGain);
  }
}

template <typename A>
__global__ void sum_of(const A* values, std::int64_t count, A* total) {
  A sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += values[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

}  // namespace

// Which GPU the calling thread's next calls are for. This library has a CUDA runtime of its own,
// whatever its version, and torch's need not tell it.
RESTYLE_EXPORT std::int32_t restyle_use_device(std::int32_t device) {
  return static_cast<std::int32_t>(cudaSetDevice(device));
}

RESTYLE_EXPORT std::int32_t restyle_upfirdn(const Upfirdn* p, cudaStream_t stream) {
  const std::int64_t count = p->batch * p->vertical.out * p->horizontal.out * p->channels;
  if (count == 0) return kDone;
  return with_dtype(p->dtype, [&](auto type) {
    launch(upfirdn<decltype(type)>, blocks_for(count), stream, *p);
  });
}

RESTYLE_EXPORT std::int32_t restyle_epilogue(const Epilogue* p, cudaStream_t stream) {
  const std::int64_t count = p->batch * p->channels * p->pixels;
  if (count == 0) return kDone;
  return with_dtype(p->dtype, [&](auto type) {
    launch(epilogue<decltype(type)>, blocks_for(count), stream, *p);
  });
}

// `scratch` holds one value of the compute type per channel.
RESTYLE_EXPORT std::int32_t restyle_epilogue_gradient(const EpilogueGradient* q,
                                                      cudaStream_t stream) {
  const Epilogue& p = q->forward;
  const std::int64_t count = p.batch * p.channels * p.pixels;
  if (count == 0) return kDone;
  return with_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    using A = compute_t<T>;
    A* scratch = static_cast<A*>(q->scratch);
    launch(epilogue_to_x<T>, blocks_for(count), stream, *q);
    launch(epilogue_to_vectors<T>, p.channels, stream, *q, scratch);
    launch(sum_of<A>, 1, stream, scratch, p.channels, static_cast<A*>(q->strength));
  });
}

}  // namespace restyle
