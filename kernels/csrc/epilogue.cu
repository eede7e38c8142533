// noise_bias_act and its gradient on GPUs. A block walks over a part of an image's pixels: channels
// last, each thread with a pack of channels of its own, whose factors it holds in registers; planar,
// all threads in one channel, a pack of pixels each.
#include "walk.cuh"

namespace restyle {
namespace {

constexpr std::int64_t kMostParts = 1 << 12;

Planes planes_of(const Epilogue& p) { return {p.batch, p.channels, p.pixels}; }

// What belongs to a thread's channels, and to a pixel or several.
template <typename A, int V, bool kLast>
struct Terms {
  static constexpr int kNoises = kLast ? 1 : V;

  A factor[Walk<V, kLast>::kChannels], bias[Walk<V, kLast>::kChannels], strength, noise[kNoises];
  const A* noises;

  __device__ Terms(const Epilogue& p, const Walk<V, kLast>& walk) {
    strength = *static_cast<const A*>(p.strength) * A(kGain);
    noises = static_cast<const A*>(p.noise) + (p.noise_per_image ? walk.image * p.pixels : 0);
    const bool there = walk.channel < p.channels;
    vector_of(there ? p.demodulation : nullptr, walk.image * p.channels + walk.channel, A(kGain),
              A(0), factor);
    vector_of(there ? p.bias : nullptr, walk.channel, A(kGain), A(0), bias);
  }
  __device__ void at(std::int64_t pixel) {
#pragma unroll
    for (int i = 0; i < kNoises; ++i) noise[i] = noises[pixel + i];
  }
  __device__ A noise_of(int i) const { return noise[kLast ? 0 : i]; }
  __device__ A factor_of(int i) const { return factor[kLast ? i : 0]; }
  __device__ A offset_of(int i) const { return noise_of(i) * strength + bias[kLast ? i : 0]; }
};

template <typename T, int V, bool kLast>
__global__ void __launch_bounds__(kThreads) epilogue(Epilogue p, int parts) {
  using A = compute_t<T>;
  const Planes planes{p.batch, p.channels, p.pixels};
  const Walk<V, kLast> walk(planes, parts);
  Terms<A, V, kLast> terms(p, walk);
  A style[Walk<V, kLast>::kChannels];
  vector_of(walk.channel < p.channels ? p.style : nullptr,
            walk.image * p.channels + walk.channel, A(1), A(1), style);
  for (std::int64_t pixel = walk.first; pixel < walk.end; pixel += walk.step) {
    terms.at(pixel);
    const std::int64_t at = walk.index(planes, pixel);
    const Values<T, V> seen = fetch<V>(static_cast<const T*>(p.x) + at);
    A values[V];
#pragma unroll
    for (int i = 0; i < V; ++i)
      values[i] = styled(value_of(seen, i), terms.factor_of(i),
                         terms.offset_of(i)) * style[kLast ? i : 0];
    put(static_cast<T*>(p.y) + at, values);
  }
}

// The gradient of x, and parts of the sums that are the others': [3, batch, kParts, channels].
template <typename T, int V, bool kLast>
__global__ void __launch_bounds__(kThreads) epilogue_gradient(EpilogueGradient q) {
  using A = compute_t<T>;
  constexpr int kChannels = Walk<V, kLast>::kChannels;
  const Epilogue& p = q.forward;
  const Planes planes{p.batch, p.channels, p.pixels};
  const Walk<V, kLast> walk(planes, kParts);
  Terms<A, V, kLast> terms(p, walk);
  A to_demodulation[kChannels] = {}, to_bias[kChannels] = {}, to_strength[kChannels] = {};
  for (std::int64_t pixel = walk.first; pixel < walk.end; pixel += walk.step) {
    terms.at(pixel);
    const std::int64_t at = walk.index(planes, pixel);
    const Values<T, V> seen = fetch<V>(static_cast<const T*>(p.x) + at);
    const Values<T, V> given = fetch<V>(static_cast<const T*>(q.gradient) + at);
    A values[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A x = value_of(seen, i), factor = terms.factor_of(i);
      const A gradient = leaky_gradient(value_of(given, i),
                                        x * factor + terms.offset_of(i));
      const int c = kLast ? i : 0;
      to_demodulation[c] += gradient * x;
      to_bias[c] += gradient;
      to_strength[c] += gradient * terms.noise_of(i);
      values[i] = gradient * factor;
    }
    put(static_cast<T*>(q.x) + at, values);
  }
  A* scratch = static_cast<A*>(q.scratch);
  const std::int64_t each = p.batch * kParts * p.channels;
  add_up(planes, walk, to_demodulation, scratch);
  add_up(planes, walk, to_bias, scratch + each);
  add_up(planes, walk, to_strength, scratch + 2 * each);
}

// One block per channel, a warp per image and a thread per part: sums have one order and need no
// atomic additions. Each channel's part of the strength's gradient goes to the end of the scratch.
template <typename A>
__global__ void vectors_of_parts(EpilogueGradient q) {
  const Epilogue& p = q.forward;
  const std::int64_t channel = blockIdx.x, each = p.batch * kParts * p.channels;
  const int lane = threadIdx.x % kWarp;
  A* scratch = static_cast<A*>(q.scratch);
  A bias = 0, strength = 0;
  for (std::int64_t image = threadIdx.x / kWarp; image < p.batch; image += kThreads / kWarp) {
    const std::int64_t at = (image * kParts + lane) * p.channels + channel;
    const A demodulation = warp_sum(scratch[at]);
    bias += scratch[each + at];
    strength += scratch[2 * each + at];
    if (lane == 0)
      static_cast<A*>(q.demodulation)[image * p.channels + channel] = demodulation * A(kGain);
  }
  bias = block_sum(bias);
  strength = block_sum(strength);
  if (threadIdx.x == 0) {
    static_cast<A*>(q.bias)[channel] = bias * A(kGain);
    scratch[3 * each + channel] = strength * A(kGain);
  }
}

template <typename A>
__global__ void sum_of(const A* values, std::int64_t count, A* total) {
  A sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += values[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}
static_assert(kParts == kWarp, "a thread of a warp adds a part");

// Calls `body` with the width of accesses and the layout.
template <typename T, typename Body>
void with_layout(const Epilogue& p, bool on_packs, Body body) {
  const bool packed = on_packs && aligned(p.x) &&
                      (p.channels_last ? p.channels : p.pixels) % kPack<T> == 0;
  with_pack<T>(packed, [&](auto pack) {
    if (p.channels_last)
      body(pack, std::true_type{});
    else
      body(pack, std::false_type{});
  });
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_epilogue(const Epilogue* p, cudaStream_t stream) {
  const std::int64_t count = p->batch * p->channels * p->pixels;
  if (count == 0) return kDone;
  if (p->batch * p->channels > INT32_MAX / kMostParts) return kTooLarge;
  return with_dtype(p->dtype, [&](auto type) {
    using T = decltype(type);
    with_layout<T>(*p, aligned(p->y), [&](auto pack, auto last) {
      constexpr int V = decltype(pack)::value;
      constexpr bool kLast = decltype(last)::value;
      // A few packs a thread, as far as there are enough for a GPU.
      const std::int64_t planes = Walk<V, kLast>::blocks(planes_of(*p), 1) * kThreads;
      const std::int64_t packs = count / V;
      const std::int64_t wanted = ceil_div(packs, planes * (packs > 8 * kBusy ? 8 : 1));
      const std::int64_t parts = wanted < kMostParts ? wanted : kMostParts;
      launch(epilogue<T, V, kLast>, Walk<V, kLast>::blocks(planes_of(*p), parts), stream, *p,
             static_cast<int>(parts));
    });
  });
}

RESTYLE_EXPORT std::int32_t restyle_epilogue_gradient(const EpilogueGradient* q,
                                                      cudaStream_t stream) {
  const Epilogue& p = q->forward;
  if (p.batch * p.channels * p.pixels == 0) return kDone;
  if (p.batch * p.channels > INT32_MAX / kMostParts) return kTooLarge;
  return with_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    using A = compute_t<T>;
    with_layout<T>(p, aligned(q->gradient) && aligned(q->x), [&](auto pack, auto last) {
      constexpr int V = decltype(pack)::value;
      constexpr bool kLast = decltype(last)::value;
      launch(epilogue_gradient<T, V, kLast>, Walk<V, kLast>::blocks(planes_of(p), kParts), stream, *q);
    });
    const A* strengths = static_cast<const A*>(q->scratch) + 3 * p.batch * kParts * p.channels;
    launch(vectors_of_parts<A>, p.channels, stream, *q);
    launch(sum_of<A>, 1, stream, strengths, p.channels, static_cast<A*>(q->strength));
  });
}

}  // namespace restyle
