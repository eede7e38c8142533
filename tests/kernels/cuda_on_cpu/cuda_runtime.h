// As much of CUDA as the kernels use, on the CPU: the threads of a block are threads, which wait for
// each other where the kernel says so; blocks come one after another. A block is one warp.
#pragma once

#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static

struct Index {
  unsigned x;
};

inline thread_local Index blockIdx, threadIdx;
inline Index blockDim, gridDim;
inline std::barrier<>* block_barrier;
inline double exchanged[64];

using cudaStream_t = void*;
inline int cudaGetLastError() { return 0; }
inline int cudaSetDevice(int) { return 0; }
inline void __syncthreads() { block_barrier->arrive_and_wait(); }

template <typename T>
T __shfl_down_sync(unsigned, T value, int offset) {
  exchanged[threadIdx.x] = value;
  __syncthreads();
  const unsigned other = threadIdx.x + offset;
  const T result = other < blockDim.x ? static_cast<T>(exchanged[other]) : value;
  __syncthreads();
  return result;
}

template <typename Body>
void run_on_cpu(std::int64_t blocks, int threads, Body body) {
  std::barrier<> barrier(threads);
  block_barrier = &barrier;
  blockDim.x = threads;
  gridDim.x = blocks;
  std::vector<std::thread> running;
  for (int thread = 0; thread < threads; ++thread)
    running.emplace_back([&, thread] {
      threadIdx.x = thread;
      for (std::int64_t block = 0; block < blocks; ++block) {
        blockIdx.x = block;
        body();
        barrier.arrive_and_wait();
      }
    });
  for (std::thread& one : running) one.join();
}
