// As much of CUDA as the kernels use, on the CPU: the threads of a block take turns, in one thread
// of the system, and go on only when all have come to the place where they wait for each other. A
// kernel in which some do not come there is told, and ends the process.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct Index {
  unsigned x;
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline Index blockIdx, threadIdx;

using std::exp;
using cudaStream_t = void*;
inline int cudaGetLastError() { return 0; }
inline int cudaSetDevice(int) { return 0; }

// The threads of the block at work; each counts how often it has waited.
struct Turns {
  static constexpr std::size_t kStack = 1 << 16;

  ucontext_t main;
  std::vector<ucontext_t> threads;
  std::vector<char> stacks;
  std::vector<unsigned> waited;
  std::vector<char> done, at_barrier;
  unsigned barriers = 0;
  // What threads tell each other; the next exchange does not overwrite what others still read.
  std::vector<double> told[2];
  std::function<void()> body;

  void run(std::int64_t blocks, int count) {
    stacks.resize(count * kStack);
    threads.resize(count);
    for (auto& each : told) each.resize(count);
    for (std::int64_t block = 0; block < blocks; ++block) {
      blockIdx.x = static_cast<unsigned>(block);
      run_block(count);
    }
  }
  void run_block(int count);
  // Until the others of the warp have come as far.
  void wait() {
    const unsigned self = threadIdx.x;
    ++waited[self];
    swapcontext(&threads[self], &main);
  }
  // Until all of the block have; warps may have waited for each other more or less often before.
  void wait_for_all() {
    const unsigned self = threadIdx.x, passed = barriers;
    at_barrier[self] = 1;
    ++waited[self];
    while (barriers == passed) swapcontext(&threads[self], &main);
  }
};

inline Turns* turns;

inline void run_thread() {
  turns->body();
  turns->done[threadIdx.x] = 1;
  swapcontext(&turns->threads[threadIdx.x], &turns->main);
}

inline void Turns::run_block(int count) {
  waited.assign(count, 0);
  done.assign(count, 0);
  at_barrier.assign(count, 0);
  for (int thread = 0; thread < count; ++thread) {
    getcontext(&threads[thread]);
    threads[thread].uc_stack.ss_sp = stacks.data() + thread * kStack;
    threads[thread].uc_stack.ss_size = kStack;
    threads[thread].uc_link = &main;
    makecontext(&threads[thread], run_thread, 0);
  }
  for (bool going = true; going;) {
    going = false;
    for (int thread = 0; thread < count; ++thread) {
      if (done[thread]) continue;
      threadIdx.x = static_cast<unsigned>(thread);
      swapcontext(&main, &threads[thread]);
      going = going || !done[thread];
    }
    bool all = true;
    for (int thread = 0; thread < count; ++thread) all = all && (done[thread] || at_barrier[thread]);
    if (all) {
      ++barriers;
      at_barrier.assign(count, 0);
    }
    // Threads wait together in a warp at least; a whole warp may have nothing to do.
    for (int thread = 0; thread < count; ++thread)
      if (waited[thread] != waited[thread / 32 * 32]) {
        std::fprintf(stderr, "threads %d and %d do not wait together\n", thread, thread / 32 * 32);
        std::abort();
      }
  }
}

inline void __syncthreads() { turns->wait_for_all(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const unsigned self = threadIdx.x;
  std::vector<double>& told = turns->told[turns->waited[self] & 1];
  told[self] = value;
  turns->wait();
  return static_cast<T>(told[self ^ mask]);
}

template <typename Body>
void run_on_cpu(std::int64_t blocks, int threads, Body body) {
  Turns block;
  block.body = body;
  turns = &block;
  block.run(blocks, threads);
}
