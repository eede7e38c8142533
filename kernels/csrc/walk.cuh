// Blocks that walk over a part of an image's pixels, and sums over them without atomic additions.
#pragma once

#include "cuda.cuh"

namespace restyle {

// Activations [batch, pixels, channels], or [batch, channels, pixels] where they are planar.
struct Planes {
  std::int64_t batch, channels, pixels;
};

// Which values a thread takes: `channel` and `first`, `first + step`, ... of the pixels.
template <int V, bool kLast>
struct Walk {
  static constexpr int kChannels = kLast ? V : 1;

  // Threads side by side, and how often they fit into a block.
  int wide, streams;
  std::int64_t image, part, channel, first, end, step;

  static std::int64_t across(const Planes& p) { return kLast ? p.channels / V : 1; }
  static std::int64_t blocks(const Planes& p, std::int64_t parts) {
    const std::int64_t images = kLast ? p.batch : p.batch * p.channels;
    return images * parts * ceil_div(across(p), kThreads);
  }

  __device__ Walk(const Planes& p, int parts) {
    const int all = kLast ? static_cast<int>(p.channels) / V : 1;
    const int sides = (all + kThreads - 1) / kThreads;
    wide = all < kThreads ? all : kThreads;
    streams = kThreads / wide;
    const unsigned side = blockIdx.x % sides, rest = blockIdx.x / sides;
    const unsigned plane = rest / parts, lane = threadIdx.x % wide, stream = threadIdx.x / wide;
    part = rest % parts;
    image = kLast ? plane : plane / static_cast<unsigned>(p.channels);
    channel = kLast ? (static_cast<std::int64_t>(side) * kThreads + lane) * V
                    : plane % static_cast<unsigned>(p.channels);
    const std::int64_t packs = kLast ? p.pixels : p.pixels / V, pack = kLast ? 1 : V;
    first = (packs * part / parts + stream) * pack;
    end = packs * (part + 1) / parts * pack;
    step = streams * pack;
    // Threads that are left over have nothing to do, and neither have channels that are not there.
    if (stream >= streams || channel >= p.channels) first = end;
  }

  __device__ std::int64_t index(const Planes& p, std::int64_t pixel) const {
    return kLast ? (image * p.pixels + pixel) * p.channels + channel
                 : (image * p.channels + channel) * p.pixels + pixel;
  }
};

// Of each thread's sums, those of all streams; `scratch` takes them for its block's channels.
template <int V, bool kLast, typename A>
__device__ void add_up(const Planes& p, const Walk<V, kLast>& walk,
                       const A (&sums)[Walk<V, kLast>::kChannels], A* scratch) {
  scratch += (walk.image * kParts + walk.part) * p.channels;
  if constexpr (!kLast) {
    const A total = block_sum(sums[0]);
    if (threadIdx.x == 0) scratch[walk.channel] = total;
  } else {
    __shared__ A shared[kThreads * V];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < V; ++i) shared[threadIdx.x * V + i] = sums[i];
    __syncthreads();
    const std::int64_t first = walk.channel - threadIdx.x % walk.wide * V;
    for (int i = threadIdx.x; i < walk.wide * V && first + i < p.channels; i += kThreads) {
      A total = 0;
      for (int stream = 0; stream < walk.streams; ++stream)
        total += shared[stream * walk.wide * V + i];
      scratch[first + i] = total;
    }
  }
}

}  // namespace restyle
