// What follows a modulated convolution: demodulation, noise, bias, leaky ReLU, and the scaling
// that the next convolution's modulation asks for. Each activation is read and written once.
#include "cpu.h"

namespace restyle {
namespace {

// An Epilogue's vectors with the gain multiplied in.
template <typename A>
struct Factors {
  std::vector<A> factor, bias;
  A strength;

  explicit Factors(const Epilogue& p)
      : factor(p.batch * p.channels), bias(p.channels),
        strength(*static_cast<const A*>(p.strength) * A(kGain)) {
    const A* demodulation = static_cast<const A*>(p.demodulation);
    for (std::size_t j = 0; j < factor.size(); ++j) factor[j] = demodulation[j] * A(kGain);
    const A* biases = static_cast<const A*>(p.bias);
    for (std::int64_t c = 0; c < p.channels; ++c) bias[c] = biases[c] * A(kGain);
  }
};

template <typename A>
const A* noise_of(const Epilogue& p, std::int64_t image) {
  return static_cast<const A*>(p.noise) + (p.noise_per_image ? image * p.pixels : 0);
}

template <typename T>
void channels_last(const Epilogue& p) {
  using A = compute_t<T>;
  const Factors<A> f(p);
  const std::int64_t channels = p.channels, pixels = p.batch * p.pixels;
  in_parallel(pixels, pixels * channels, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t at = first; at < last; ++at) {
      const std::int64_t image = at / p.pixels;
      const A noise = noise_of<A>(p, image)[at % p.pixels] * f.strength;
      const T* x = static_cast<const T*>(p.x) + at * channels;
      T* y = static_cast<T*>(p.y) + at * channels;
      const A *factor = f.factor.data() + image * channels, *bias = f.bias.data();
      if (p.style == nullptr) {
#pragma omp simd
        for (std::int64_t c = 0; c < channels; ++c)
          store(y + c, styled(load(x + c), factor[c], noise + bias[c]));
      } else {
        const A* style = static_cast<const A*>(p.style) + image * channels;
#pragma omp simd
        for (std::int64_t c = 0; c < channels; ++c)
          store(y + c, styled(load(x + c), factor[c], noise + bias[c]) * style[c]);
      }
    }
  });
}

template <typename T>
void planar(const Epilogue& p) {
  using A = compute_t<T>;
  const Factors<A> f(p);
  const std::int64_t planes = p.batch * p.channels;
  in_parallel(planes * p.pixels, planes * p.pixels, [&](std::int64_t first, std::int64_t last) {
    while (first < last) {
      const std::int64_t plane = first / p.pixels, begin = first % p.pixels;
      const std::int64_t end = std::min(p.pixels, begin + last - first);
      const A* noise = noise_of<A>(p, plane / p.channels);
      const T* x = static_cast<const T*>(p.x) + plane * p.pixels;
      T* y = static_cast<T*>(p.y) + plane * p.pixels;
      const A factor = f.factor[plane], bias = f.bias[plane % p.channels];
      const A style = p.style == nullptr ? A(1) : static_cast<const A*>(p.style)[plane];
#pragma omp simd
      for (std::int64_t j = begin; j < end; ++j)
        store(y + j, styled(load(x + j), factor, noise[j] * f.strength + bias) * style);
      first += end - begin;
    }
  });
}

// Sums over the pixels of a part of an image, in the order of the pixels.
template <typename A>
struct Sums {
  std::vector<A> demodulation, bias;
  A strength = 0;
  explicit Sums(std::int64_t channels) : demodulation(channels), bias(channels) {}
};

// One pixel of the backward pass: `channels` values of x and of the gradient `g`.
template <typename T, typename A>
A pixel_gradient(const T* x, const T* g, T* gx, const A* factor, const A* bias, A noise,
                 std::int64_t channels, Sums<A>& sums) {
  A total = 0;
  A *demodulation = sums.demodulation.data(), *biases = sums.bias.data();
#pragma omp simd reduction(+ : total)
  for (std::int64_t c = 0; c < channels; ++c) {
    const A value = load(x + c) * factor[c] + (noise + bias[c]);
    const A gradient = leaky_gradient(load(g + c), value);
    store(gx + c, gradient * factor[c]);
    demodulation[c] += gradient * load(x + c);
    biases[c] += gradient;
    total += gradient;
  }
  return total;
}

// A part of a plane: `count` pixels of one channel.
template <typename T, typename A>
void plane_gradient(const T* x, const T* g, T* gx, const A* noise, A strength, A factor, A bias,
                    std::int64_t count, A& to_demodulation, A& to_bias, A& to_strength) {
  A demodulation = 0, biases = 0, strengths = 0;
#pragma omp simd reduction(+ : demodulation, biases, strengths)
  for (std::int64_t j = 0; j < count; ++j) {
    const A value = load(x + j) * factor + (noise[j] * strength + bias);
    const A gradient = leaky_gradient(load(g + j), value);
    store(gx + j, gradient * factor);
    demodulation += gradient * load(x + j);
    biases += gradient;
    strengths += gradient * noise[j];
  }
  to_demodulation += demodulation;
  to_bias += biases;
  to_strength += strengths;
}

template <typename T, typename A>
void gradient_of_part(const EpilogueGradient& q, const Factors<A>& f, std::int64_t image,
                      std::int64_t begin, std::int64_t end, Sums<A>& sums) {
  const Epilogue& p = q.forward;
  const std::int64_t channels = p.channels, start = image * p.pixels * channels;
  const T* x = static_cast<const T*>(p.x) + start;
  const T* g = static_cast<const T*>(q.gradient) + start;
  T* gx = static_cast<T*>(q.x) + start;
  const A* noise = noise_of<A>(p, image);
  const A *factor = f.factor.data() + image * channels, *bias = f.bias.data();
  if (p.channels_last) {
    for (std::int64_t j = begin; j < end; ++j) {
      const std::int64_t at = j * channels;
      sums.strength += noise[j] * pixel_gradient(x + at, g + at, gx + at, factor, bias,
                                                 noise[j] * f.strength, channels, sums);
    }
    return;
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    const std::int64_t at = c * p.pixels + begin;
    plane_gradient(x + at, g + at, gx + at, noise + begin, f.strength, factor[c], bias[c],
                   end - begin, sums.demodulation[c], sums.bias[c], sums.strength);
  }
}

// Parts of an image, whose number does not depend on the threads: sums are the same with any.
constexpr std::int64_t kParts = 16;

template <typename T>
void gradient(const EpilogueGradient& q) {
  using A = compute_t<T>;
  const Epilogue& p = q.forward;
  const Factors<A> f(p);
  std::vector<Sums<A>> sums(p.batch * kParts, Sums<A>(p.channels));
  const std::int64_t values = p.batch * p.channels * p.pixels;
  in_parallel(p.batch * kParts, values, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t at = first; at < last; ++at) {
      const std::int64_t part = at % kParts;
      gradient_of_part<T>(q, f, at / kParts, p.pixels * part / kParts,
                          p.pixels * (part + 1) / kParts, sums[at]);
    }
  });
  A* demodulation = static_cast<A*>(q.demodulation);
  A* bias = static_cast<A*>(q.bias);
  A* strength = static_cast<A*>(q.strength);
  std::fill(demodulation, demodulation + p.batch * p.channels, A(0));
  std::fill(bias, bias + p.channels, A(0));
  *strength = 0;
  for (std::int64_t at = 0; at < p.batch * kParts; ++at) {
    for (std::int64_t c = 0; c < p.channels; ++c) {
      demodulation[at / kParts * p.channels + c] += sums[at].demodulation[c] * A(kGain);
      bias[c] += sums[at].bias[c] * A(kGain);
    }
    *strength += sums[at].strength * A(kGain);
  }
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_epilogue(const Epilogue* p) {
  return with_dtype(p->dtype, [&](auto type) {
    if (p->channels_last) {
      channels_last<decltype(type)>(*p);
    } else {
      planar<decltype(type)>(*p);
    }
  });
}

RESTYLE_EXPORT std::int32_t restyle_epilogue_gradient(const EpilogueGradient* q) {
  return with_dtype(q->forward.dtype, [&](auto type) { gradient<decltype(type)>(*q); });
}

}  // namespace restyle
