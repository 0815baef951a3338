// Fused operations of training-mode networks, for channels-last tensors seen as `rows x channels`.
//
// A node of a network is a sum of batch-normalised convolutions and of plain tensors. Done one by one, each
// normalisation, sum and rectification reads and writes the whole tensor; here a node takes two passes forward and two
// backward, whatever it sums. Arithmetic is fp32, storage fp32 or bf16. Work is cut into chunks that do not depend on the
// number of threads, and their sums are added in order, so results repeat bit for bit.
//
// A node may also normalise every sample by its own statistics; then one sample is done after the other, from the cache.
// With it come the gradients of a convolution's weights that each sample alone gives, or how many are above zero less how
// many are below: products of pixels and channels, register by register, of which no batch is ever held.

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Index = int64_t;
constexpr Index kChunkBytes = 1 << 16;  // of one tensor: a chunk is read again while it is still in the cache
constexpr int kMaxTerms = 4;  // convolutions that one node may sum

template <typename T, int W>
struct Pack {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <int W>
using Floats = typename Pack<float, W>::type;

struct bf16 {
  uint16_t bits;
};

template <int W>
inline Floats<W> load(const float* from) {
  Floats<W> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

template <int W>
inline Floats<W> load(const bf16* from) {
  typename Pack<uint16_t, W>::type half;
  std::memcpy(&half, from, sizeof half);
  auto wide = __builtin_convertvector(half, typename Pack<uint32_t, W>::type) << 16;
  Floats<W> x;
  std::memcpy(&x, &wide, sizeof x);
  return x;
}

template <int W>
inline void store(float* to, Floats<W> x) {
  std::memcpy(to, &x, sizeof x);
}

template <int W>
inline void store(bf16* to, Floats<W> x) {
  typename Pack<uint32_t, W>::type bits;
  std::memcpy(&bits, &x, sizeof bits);
  auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  auto is_nan = (x != x);
  auto kept = is_nan ? (bits * 0 + 0x7fc0u) : rounded;
  auto half = __builtin_convertvector(kept, typename Pack<uint16_t, W>::type);
  std::memcpy(to, &half, sizeof half);
}

template <int W>
inline Floats<W> positive(Floats<W> x) {
  const Floats<W> zero = {};
  return x > zero ? x : (x != x ? x : zero);  // NaN stays NaN, so that a divergence is seen
}

struct Chunks {
  Index rows, size, count;
  Chunks(Index rows, Index channels, Index bytes)
      : rows(rows), size(std::max<Index>(1, kChunkBytes / (channels * bytes))), count((rows + size - 1) / size) {}
  Index begin(Index chunk) const { return chunk * size; }
  Index end(Index chunk) const { return std::min(rows, (chunk + 1) * size); }
};

// Calls body.template operator()<W>(first channel) for blocks of 16, then 8, then single channels.
template <typename Body>
inline void over_channels(Index channels, Body body) {
  Index c = 0;
  for (; c + 16 <= channels; c += 16) body.template run<16>(c);
  for (; c + 8 <= channels; c += 8) body.template run<8>(c);
  for (; c < channels; ++c) body.template run<1>(c);
}

// --- forward ---------------------------------------------------------------------------------------------------------

template <typename T>
struct Moments {  // sums of (x - first row) and of its square, over some rows
  const T* x;
  Index channels, begin, end;
  float* sums;  // 2 x channels
  template <int W>
  void run(Index c) const {
    const Floats<W> shift = load<W>(x + c);
    Floats<W> first[4] = {}, second[4] = {};
    Index row = begin;
    for (; row + 4 <= end; row += 4)
      for (int lane = 0; lane < 4; ++lane) {
        const Floats<W> d = load<W>(x + (row + lane) * channels + c) - shift;
        first[lane] += d;
        second[lane] += d * d;
      }
    for (; row < end; ++row) {
      const Floats<W> d = load<W>(x + row * channels + c) - shift;
      first[0] += d;
      second[0] += d * d;
    }
    store<W>(sums + c, (first[0] + first[1]) + (first[2] + first[3]));
    store<W>(sums + channels + c, (second[0] + second[1]) + (second[2] + second[3]));
  }
};

struct Statistics {  // of values whose distances to `shift` sum up to `first`, their squares to `second`
  double mean, variance;
  float inverse;
  Statistics(double first, double second, Index rows, float shift, float eps) {
    first /= rows;
    variance = std::max(0.0, second / rows - first * first);
    mean = shift + first;
    inverse = static_cast<float>(1.0 / std::sqrt(variance + eps));
  }
};

template <typename T, int K>
struct Sum {  // value = sum of scale * convolved + offset + sum of plain, and its positive part
  const T* const* convolved;
  const float* scale;   // K x channels
  const float* offset;  // channels
  int num_plain;
  const T* const* plain;
  Index channels, begin, end;
  T *value, *rectified;
  template <int W>
  void run(Index c) const {
    Floats<W> a[K + 1];
    for (int k = 0; k < K; ++k) a[k] = load<W>(scale + k * channels + c);
    const Floats<W> b = load<W>(offset + c);
    for (Index row = begin; row < end; ++row) {
      const Index at = row * channels + c;
      Floats<W> y = b;
      for (int k = 0; k < K; ++k) y += a[k] * load<W>(convolved[k] + at);
      for (int s = 0; s < num_plain; ++s) y += load<W>(plain[s] + at);
      if (value) store<W>(value + at, y);
      if (rectified) store<W>(rectified + at, positive<W>(y));
    }
  }
};

template <typename T, int K>
void forward(Index rows, Index channels, const T* const* convolved, int num_plain, const T* const* plain,
             const float* const* gamma, const float* const* beta, float* const* running_mean, float* const* running_var,
             const float* eps, const float* momentum, float* mean, float* inverse, T* value, T* rectified) {
  const Chunks chunks(rows, channels, sizeof(T));
  std::vector<float> partial(chunks.count * K * 2 * channels), scale(K * channels + 1), offset(channels, 0.0f);
#pragma omp parallel
  {
    if (K > 0) {
#pragma omp for schedule(static)
      for (Index chunk = 0; chunk < chunks.count; ++chunk)
        for (int k = 0; k < K; ++k)
          over_channels(channels, Moments<T>{convolved[k], channels, chunks.begin(chunk), chunks.end(chunk),
                                             partial.data() + (chunk * K + k) * 2 * channels});
#pragma omp single
      for (int k = 0; k < K; ++k)
        for (Index c = 0; c < channels; ++c) {
          double first = 0, second = 0;
          for (Index chunk = 0; chunk < chunks.count; ++chunk) {
            const float* sums = partial.data() + (chunk * K + k) * 2 * channels;
            first += sums[c];
            second += sums[channels + c];
          }
          const Statistics own(first, second, rows, load<1>(convolved[k] + c)[0], eps[k]);
          mean[k * channels + c] = static_cast<float>(own.mean);
          inverse[k * channels + c] = own.inverse;
          const float a = gamma[k] ? gamma[k][c] * own.inverse : own.inverse;
          scale[k * channels + c] = a;
          offset[c] += (beta[k] ? beta[k][c] : 0.0f) - static_cast<float>(own.mean * a);
          if (running_mean[k]) {
            const double unbiased = rows > 1 ? own.variance * rows / (rows - 1) : own.variance;
            running_mean[k][c] += momentum[k] * (static_cast<float>(own.mean) - running_mean[k][c]);
            running_var[k][c] += momentum[k] * (static_cast<float>(unbiased) - running_var[k][c]);
          }
        }
    }
#pragma omp for schedule(static)
    for (Index chunk = 0; chunk < chunks.count; ++chunk)
      over_channels(channels, Sum<T, K>{convolved, scale.data(), offset.data(), num_plain, plain, channels,
                                        chunks.begin(chunk), chunks.end(chunk), value, rectified});
  }
}

// The same with each of `samples`, of `rows` each, normalised by its own statistics; mean and inverse: K x samples x channels.
template <typename T, int K>
void forward_each(Index samples, Index rows, Index channels, const T* const* convolved, int num_plain,
                  const T* const* plain, const float* const* gamma, const float* const* beta, const float* eps,
                  float* mean, float* inverse, T* value, T* rectified) {
  const Chunks chunks(rows, channels, sizeof(T));
#pragma omp parallel
  {
    std::vector<float> sums(2 * channels), scale(K * channels + 1), offset(channels);
    std::vector<double> total(2 * channels);
#pragma omp for schedule(static)
    for (Index sample = 0; sample < samples; ++sample) {
      const Index start = sample * rows;
      std::fill(offset.begin(), offset.end(), 0.0f);
      for (int k = 0; k < K; ++k) {
        const Index own = (k * samples + sample) * channels;
        const T* y = convolved[k] + start * channels;
        std::fill(total.begin(), total.end(), 0.0);
        for (Index chunk = 0; chunk < chunks.count; ++chunk) {
          const Index begin = chunks.begin(chunk);
          over_channels(channels, Moments<T>{y + begin * channels, channels, 0, chunks.end(chunk) - begin, sums.data()});
          for (Index c = 0; c < channels; ++c) {  // distances to the first row of the chunk -> of the sample
            const double count = chunks.end(chunk) - begin;
            const double apart = load<1>(y + begin * channels + c)[0] - load<1>(y + c)[0];
            total[c] += sums[c] + count * apart;
            total[channels + c] += sums[channels + c] + 2 * apart * sums[c] + count * apart * apart;
          }
        }
        for (Index c = 0; c < channels; ++c) {
          const Statistics of(total[c], total[channels + c], rows, load<1>(y + c)[0], eps[k]);
          mean[own + c] = static_cast<float>(of.mean);
          inverse[own + c] = of.inverse;
          scale[k * channels + c] = gamma[k] ? gamma[k][c] * of.inverse : of.inverse;
          offset[c] += (beta[k] ? beta[k][c] : 0.0f) - static_cast<float>(of.mean * scale[k * channels + c]);
        }
      }
      over_channels(channels, Sum<T, K>{convolved, scale.data(), offset.data(), num_plain, plain, channels, start,
                                        start + rows, value, rectified});
    }
  }
}

// --- backward --------------------------------------------------------------------------------------------------------

template <typename T>
struct Incoming {  // gradient that arrives at a node: of its value, and of its positive part where that was positive
  const T *of_value, *of_rectified, *positive_where;
  template <int W>
  Floats<W> at(Index i) const {
    Floats<W> g = {};
    if (of_value) g = load<W>(of_value + i);
    if (of_rectified) {
      const Floats<W> zero = {}, y = load<W>(positive_where + i), r = load<W>(of_rectified + i);
      g += y > zero ? r : zero;
    }
    return g;
  }
};

template <typename T, int K>
struct GradientSums {  // sum of g, and of g * (convolved - mean); writes g where it is asked for
  Incoming<T> incoming;
  const T* const* convolved;
  const float* mean;
  Index channels, begin, end;
  T* gradient;
  float* sums;  // (K + 1) x channels
  template <int W>
  void run(Index c) const {
    Floats<W> m[K + 1], total[2] = {}, product[K + 1][2] = {};
    for (int k = 0; k < K; ++k) m[k] = load<W>(mean + k * channels + c);
    for (Index row = begin; row < end; ++row) {
      const Index at = row * channels + c;
      const int lane = row & 1;
      const Floats<W> g = incoming.template at<W>(at);
      if (gradient) store<W>(gradient + at, g);
      total[lane] += g;
      for (int k = 0; k < K; ++k) product[k][lane] += g * (load<W>(convolved[k] + at) - m[k]);
    }
    store<W>(sums + c, total[0] + total[1]);
    for (int k = 0; k < K; ++k) store<W>(sums + (k + 1) * channels + c, product[k][0] + product[k][1]);
  }
};

template <typename T, int K>
struct Distribute {  // gradient of convolved k = p g + q convolved + r
  Incoming<T> incoming;
  const T* const* convolved;
  const float* coefficients;  // K x 3 x channels
  Index channels, begin, end;
  T* const* gradients;
  template <int W>
  void run(Index c) const {
    for (Index row = begin; row < end; ++row) {
      const Index at = row * channels + c;
      const Floats<W> g = incoming.template at<W>(at);
      for (int k = 0; k < K; ++k) {
        const float* f = coefficients + k * 3 * channels + c;
        const Floats<W> y = load<W>(f) * g + (load<W>(f + channels) * load<W>(convolved[k] + at) + load<W>(f + 2 * channels));
        store<W>(gradients[k] + at, y);
      }
    }
  }
};

// p, q and r of `Distribute` for one channel; total: sum of g, product: sum of g * (convolved - mean).
inline void coefficients_of(double total, double product, Index rows, double gamma, double mean, double inverse, float* to,
                            Index channels) {
  const double p = gamma * inverse, q = -p * inverse * inverse * product / rows;
  to[0] = static_cast<float>(p);
  to[channels] = static_cast<float>(q);
  to[2 * channels] = static_cast<float>(-p * total / rows - q * mean);
}

template <typename T, int K>
void backward(Index rows, Index channels, Incoming<T> incoming, const T* const* convolved, const float* const* gamma,
              const float* mean, const float* inverse, T* gradient, T* const* gradients, float* const* of_gamma,
              float* const* of_beta) {
  const Chunks chunks(rows, channels, sizeof(T));
  std::vector<float> partial(chunks.count * (K + 1) * channels), coefficients(K * 3 * channels + 1);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (Index chunk = 0; chunk < chunks.count; ++chunk)
      over_channels(channels, GradientSums<T, K>{incoming, convolved, mean, channels, chunks.begin(chunk),
                                                 chunks.end(chunk), gradient,
                                                 partial.data() + chunk * (K + 1) * channels});
#pragma omp single
    for (Index c = 0; c < channels; ++c) {
      double total = 0;
      for (Index chunk = 0; chunk < chunks.count; ++chunk) total += partial[chunk * (K + 1) * channels + c];
      for (int k = 0; k < K; ++k) {
        double product = 0;
        for (Index chunk = 0; chunk < chunks.count; ++chunk)
          product += partial[(chunk * (K + 1) + k + 1) * channels + c];
        const double inv = inverse[k * channels + c];
        coefficients_of(total, product, rows, gamma[k] ? gamma[k][c] : 1.0f, mean[k * channels + c], inv,
                        coefficients.data() + k * 3 * channels + c, channels);
        if (of_gamma[k]) of_gamma[k][c] = static_cast<float>(product * inv);
        if (of_beta[k]) of_beta[k][c] = static_cast<float>(total);
      }
    }
    if (K > 0) {
      const Incoming<T> again = gradient ? Incoming<T>{gradient, nullptr, nullptr} : incoming;
#pragma omp for schedule(static)
      for (Index chunk = 0; chunk < chunks.count; ++chunk)
        over_channels(channels, Distribute<T, K>{again, convolved, coefficients.data(), channels, chunks.begin(chunk),
                                                 chunks.end(chunk), gradients});
    }
  }
}

// The same for `forward_each`; scales and shifts get no gradient.
template <typename T, int K>
void backward_each(Index samples, Index rows, Index channels, Incoming<T> incoming, const T* const* convolved,
                   const float* const* gamma, const float* mean, const float* inverse, T* gradient,
                   T* const* gradients) {
  const Chunks chunks(rows, channels, sizeof(T));
  const Incoming<T> again = gradient ? Incoming<T>{gradient, nullptr, nullptr} : incoming;
#pragma omp parallel
  {
    std::vector<float> sums((K + 1) * channels), means(K * channels + 1), coefficients(K * 3 * channels + 1);
    std::vector<double> total((K + 1) * channels);
#pragma omp for schedule(static)
    for (Index sample = 0; sample < samples; ++sample) {
      const Index start = sample * rows, end = start + rows;
      for (int k = 0; k < K; ++k)
        std::copy_n(mean + (k * samples + sample) * channels, channels, means.data() + k * channels);
      std::fill(total.begin(), total.end(), 0.0);
      for (Index chunk = 0; chunk < chunks.count; ++chunk) {
        over_channels(channels, GradientSums<T, K>{incoming, convolved, means.data(), channels,
                                                   start + chunks.begin(chunk), start + chunks.end(chunk), gradient,
                                                   sums.data()});
        for (Index i = 0; i < (K + 1) * channels; ++i) total[i] += sums[i];
      }
      for (int k = 0; k < K; ++k)
        for (Index c = 0; c < channels; ++c)
          coefficients_of(total[c], total[(k + 1) * channels + c], rows, gamma[k] ? gamma[k][c] : 1.0f,
                          means[k * channels + c], inverse[(k * samples + sample) * channels + c],
                          coefficients.data() + k * 3 * channels + c, channels);
      if (K > 0)
        over_channels(channels, Distribute<T, K>{again, convolved, coefficients.data(), channels, start, end, gradients});
    }
  }
}

// --- 3x3 average -----------------------------------------------------------------------------------------------------

inline float share(Index at, Index size) { return 1.0f / static_cast<float>(1 + (at > 0) + (at + 1 < size)); }

// Average over the 3x3 neighbours inside the image, or (transposed) the gradient of that.
template <typename T>
struct Average {
  const T* x;
  T* y;
  Index height, width, channels;
  bool transposed;
  float* rows;  // 3 x width x channels: horizontal sums of three neighbouring rows
  template <int W>
  void across(Index h, Index c) const {
    const T* from = x + h * width * channels + c;
    float* to = rows + (h % 3) * width * channels + c;
    const float down = transposed ? share(h, height) : 1.0f;
    const auto at = [&](Index w) {
      return load<W>(from + w * channels) * (transposed ? down * share(w, width) : 1.0f);
    };
    Floats<W> left = {}, here = at(0);
    for (Index w = 0; w < width; ++w) {
      const Floats<W> right = w + 1 < width ? at(w + 1) : Floats<W>{};
      store<W>(to + w * channels, left + here + right);
      left = here;
      here = right;
    }
  }
  template <int W>
  void run(Index c) const {
    across<W>(0, c);
    for (Index h = 0; h < height; ++h) {
      if (h + 1 < height) across<W>(h + 1, c);
      const float* middle = rows + (h % 3) * width * channels + c;
      const float* above = h > 0 ? rows + ((h + 2) % 3) * width * channels + c : nullptr;
      const float* below = h + 1 < height ? rows + ((h + 1) % 3) * width * channels + c : nullptr;
      const float down = transposed ? 1.0f : share(h, height);
      T* to = y + h * width * channels + c;
      for (Index w = 0; w < width; ++w) {
        Floats<W> sum = load<W>(middle + w * channels);
        if (above) sum += load<W>(above + w * channels);
        if (below) sum += load<W>(below + w * channels);
        store<W>(to + w * channels, sum * (transposed ? 1.0f : down * share(w, width)));
      }
    }
  }
};

template <typename T>
void average(Index batch, Index height, Index width, Index channels, const T* x, T* y, bool transposed) {
#pragma omp parallel
  {
    std::vector<float> rows(3 * width * channels);
#pragma omp for schedule(static)
    for (Index b = 0; b < batch; ++b) {
      const Index at = b * height * width * channels;
      over_channels(channels, Average<T>{x + at, y + at, height, width, channels, transposed, rows.data()});
    }
  }
}

// --- gradients of each sample ----------------------------------------------------------------------------------------

#ifdef __AVX512F__
constexpr int kLanes = 16, kBlock = 8;  // three taps of a block of input channels, and what they multiply, fill 32 registers
#else
constexpr int kLanes = 8, kBlock = 4;
#endif
constexpr Index kInputs = 4;  // input channels are padded to a multiple of this

struct Convolution {  // channels-last, square kernel and stride; depthwise has as many outputs as inputs
  Index batch, height, width, inputs, out_height, out_width, outputs, kernel, stride, padding, depthwise;
};

// What is multiplied at a time: a value, or two of neighbouring outputs where the machine has dot products of bf16.
template <typename T>
struct Factor {
  typedef float type;
  static constexpr int pixels = 1;
  static Floats<kLanes> add(Floats<kLanes> sum, Floats<kLanes> g, Floats<kLanes> x) { return sum + g * x; }
  static Floats<kLanes> add(Floats<kLanes> sum, Floats<kLanes> g, float x) { return sum + g * x; }
  static Floats<kLanes> get(const float* from) { return load<kLanes>(from); }
  template <int W, typename S>
  static void pack(float* to, const S* first, const S*) {
    if (first) store<W>(to, load<W>(first));
  }
};

#ifdef __AVX512BF16__
template <int W>
inline typename Pack<uint16_t, W>::type halves(const bf16* from) {
  typename Pack<uint16_t, W>::type half;
  std::memcpy(&half, from, sizeof half);
  return half;
}

template <int W>
inline typename Pack<uint16_t, W>::type halves(const float* from) {
  bf16 rounded[W];
  store<W>(rounded, load<W>(from));
  return halves<W>(rounded);
}

template <>
struct Factor<bf16> {
  typedef uint32_t type;
  static constexpr int pixels = 2;
  static Floats<kLanes> add(Floats<kLanes> sum, __m512i g, __m512i x) {
    return (Floats<kLanes>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)g, (__m512bh)x);
  }
  static Floats<kLanes> add(Floats<kLanes> sum, __m512i g, uint32_t x) {
    return add(sum, g, _mm512_set1_epi32(static_cast<int>(x)));
  }
  static __m512i get(const uint32_t* from) { return _mm512_loadu_si512(from); }
  template <int W, typename S>
  static void pack(uint32_t* to, const S* first, const S* second) {
    const auto a = first ? halves<W>(first) : typename Pack<uint16_t, W>::type{};
    const auto b = second ? halves<W>(second) : typename Pack<uint16_t, W>::type{};
    const auto pair = __builtin_convertvector(a, typename Pack<uint32_t, W>::type) |
                      (__builtin_convertvector(b, typename Pack<uint32_t, W>::type) << 16);
    std::memcpy(to, &pair, sizeof pair);
  }
};
#endif

template <typename T, typename S>
struct Packing {  // one pixel, all channels
  typename Factor<T>::type* to;
  const S *first, *second;
  template <int W>
  void run(Index c) const {
    Factor<T>::template pack<W, S>(to + c, first ? first + c : nullptr, second ? second + c : nullptr);
  }
};

// One sample at a time: its pixels packed with their borders, then one sum of products per weight. X: of the pixels, which
// may be wider than T, that of the gradient and of what is multiplied.
template <typename X, typename T>
class SampleGradient {
  typedef Factor<T> F;
  typedef typename F::type U;

 public:
  explicit SampleGradient(const Convolution& conv)
      : conv_(conv),
        inputs_(rounded_up(conv.inputs, conv.depthwise ? kLanes : kInputs)),
        outputs_(rounded_up(conv.outputs, kLanes)),
        steps_((conv.out_width + F::pixels - 1) / F::pixels),
        columns_((steps_ - 1) * F::pixels * conv.stride + conv.kernel),
        rows_((conv.out_height - 1) * conv.stride + conv.kernel) {
    x_is_packed_ = sizeof(X) == sizeof(U) && F::pixels == 1 && inputs_ == conv.inputs && conv.padding == 0 && columns_ == conv.width;
    g_is_packed_ = sizeof(T) == sizeof(U) && F::pixels == 1 && outputs_ == conv.outputs;
    if (!x_is_packed_) packed_x_.assign(rows_ * columns_ * inputs_, U());
    if (!g_is_packed_) packed_g_.assign(conv.out_height * steps_ * outputs_, U());
  }

  Index padded_inputs() const { return conv_.depthwise ? 1 : inputs_; }
  Index size() const { return conv_.kernel * conv_.kernel * padded_inputs() * outputs_; }

  // emit(place, sums): the gradients of kLanes weights; place counts in kernel x kernel x inputs x outputs, padded.
  template <typename Emit>
  void run(const X* x, const T* g, Emit emit) {
    if (x_is_packed_)
      x_ = reinterpret_cast<const U*>(x);
    else
      pack_x(x);
    if (g_is_packed_)
      g_ = reinterpret_cast<const U*>(g);
    else
      pack_g(g);
    for (Index output = 0; output < outputs_; output += kLanes)
      for (Index row = 0; row < conv_.kernel; ++row)
        for (Index column = 0; column < conv_.kernel;) {
          if (column + 3 <= conv_.kernel) {
            taps<3>(row, column, output, emit);
            column += 3;
          } else {
            taps<1>(row, column, output, emit);
            column += 1;
          }
        }
  }

 private:
  static Index rounded_up(Index x, Index to) { return (x + to - 1) / to * to; }

  void pack_x(const X* x) {
    for (Index r = 0; r < rows_; ++r) {
      const Index h = r - conv_.padding;
      if (h < 0 || h >= conv_.height) continue;
      for (Index c = 0; c < columns_; ++c) {
        const Index w = c - conv_.padding;
        const auto at = [&](Index w) { return w >= 0 && w < conv_.width ? x + (h * conv_.width + w) * conv_.inputs : nullptr; };
        over_channels(conv_.inputs,
                      Packing<T, X>{packed_x_.data() + (r * columns_ + c) * inputs_, at(w), at(w + conv_.stride)});
      }
    }
    x_ = packed_x_.data();
  }

  void pack_g(const T* g) {
    for (Index h = 0; h < conv_.out_height; ++h)
      for (Index step = 0; step < steps_; ++step) {
        const Index w = step * F::pixels;
        const auto at = [&](Index w) { return w < conv_.out_width ? g + (h * conv_.out_width + w) * conv_.outputs : nullptr; };
        over_channels(conv_.outputs, Packing<T, T>{packed_g_.data() + (h * steps_ + step) * outputs_, at(w), at(w + 1)});
      }
    g_ = packed_g_.data();
  }

  template <int TAPS, typename Emit>
  void taps(Index row, Index column, Index output, Emit emit) {
    if (conv_.depthwise) return products<TAPS, 1, true>(row, column, output, output, emit);
    Index input = 0;
    if (TAPS == 1)
      for (; input + 2 * kBlock <= inputs_; input += 2 * kBlock)
        products<TAPS, TAPS == 1 ? 2 * kBlock : kBlock, false>(row, column, input, output, emit);
    for (; input + kBlock <= inputs_; input += kBlock) products<TAPS, kBlock, false>(row, column, input, output, emit);
    for (; input < inputs_; input += kInputs) products<TAPS, kInputs, false>(row, column, input, output, emit);
  }

  template <int TAPS, int BLOCK, bool DEPTHWISE, typename Emit>
  void products(Index row, Index column, Index input, Index output, Emit emit) {
    Floats<kLanes> sums[TAPS][BLOCK] = {};
    const U* x = x_ + (row * columns_ + column) * inputs_ + input;
    for (Index h = 0; h < conv_.out_height; ++h)
      row_of_products<TAPS, BLOCK, DEPTHWISE>(x + h * conv_.stride * columns_ * inputs_, F::pixels * conv_.stride * inputs_,
                                              inputs_, g_ + h * steps_ * outputs_ + output, outputs_, steps_, sums);
    for (int t = 0; t < TAPS; ++t)
      for (int b = 0; b < BLOCK; ++b) {
        const Index tap = row * conv_.kernel + column + t;
        emit((DEPTHWISE ? tap : tap * inputs_ + input + b) * outputs_ + output, sums[t][b]);
      }
  }

  // A function of its own, with a pointer per tap: else the compiler keeps one offset per factor, and those in memory.
  template <int TAPS, int BLOCK, bool DEPTHWISE>
  static void row_of_products(const U* x, Index x_step, Index tap, const U* g, Index g_step, Index steps,
                              Floats<kLanes> (&sums)[TAPS][BLOCK]) {
    const U* at[TAPS];
    for (int t = 0; t < TAPS; ++t) at[t] = x + t * tap;
    for (Index w = 0; w < steps; ++w, g += g_step) {
      const auto here = F::get(g);
      for (int t = 0; t < TAPS; ++t) {
        for (int b = 0; b < BLOCK; ++b)
          if constexpr (DEPTHWISE)
            sums[t][b] = F::add(sums[t][b], here, F::get(at[t]));
          else
            sums[t][b] = F::add(sums[t][b], here, at[t][b]);
        at[t] += x_step;
        asm("" : "+r"(at[t]));
      }
    }
  }

  Convolution conv_;
  Index inputs_, outputs_, steps_, columns_, rows_;
  bool x_is_packed_, g_is_packed_;
  std::vector<U> packed_x_, packed_g_;
  const U *x_ = nullptr, *g_ = nullptr;
};

// Adds sign(gradient of sample i), summed over i, to signs, `outputs x kernel x kernel x inputs`; NaN counts as 0.
template <typename X, typename T>
void sign_sums(const Convolution& conv, const X* x, const T* g, int32_t* signs) {
#pragma omp parallel
  {
    SampleGradient<X, T> gradient(conv);
    std::vector<int32_t> total(gradient.size());
#pragma omp for schedule(static) nowait
    for (Index b = 0; b < conv.batch; ++b)
      gradient.run(x + b * conv.height * conv.width * conv.inputs, g + b * conv.out_height * conv.out_width * conv.outputs,
                   [&](Index place, Floats<kLanes> sums) {
                     const Floats<kLanes> zero = {};
                     typename Pack<int32_t, kLanes>::type so_far;
                     std::memcpy(&so_far, total.data() + place, sizeof so_far);
                     so_far += (sums < zero) - (sums > zero);  // a comparison that holds is -1
                     std::memcpy(total.data() + place, &so_far, sizeof so_far);
                   });
    const Index inputs = conv.depthwise ? 1 : conv.inputs, padded = gradient.padded_inputs();
    const Index taps = conv.kernel * conv.kernel, outputs = gradient.size() / (taps * padded);
#pragma omp critical(sign_sums)
    for (Index output = 0; output < conv.outputs; ++output)
      for (Index tap = 0; tap < taps; ++tap)
        for (Index input = 0; input < inputs; ++input)
          signs[(output * taps + tap) * inputs + input] += total[(tap * padded + input) * outputs + output];
  }
}

// gradients: batch x sample_gradient_size, in the order of `SampleGradient`.
template <typename X, typename T>
void sample_gradients(const Convolution& conv, const X* x, const T* g, float* gradients) {
#pragma omp parallel
  {
    SampleGradient<X, T> gradient(conv);
#pragma omp for schedule(static)
    for (Index b = 0; b < conv.batch; ++b) {
      float* to = gradients + b * gradient.size();
      gradient.run(x + b * conv.height * conv.width * conv.inputs, g + b * conv.out_height * conv.out_width * conv.outputs,
                   [&](Index place, Floats<kLanes> sums) { store<kLanes>(to + place, sums); });
    }
  }
}

template <typename T>
const T* const* as(const void* const* pointers) {
  return reinterpret_cast<const T* const*>(pointers);
}

template <typename T, int K = 0>
void forward_any(int num_convolved, Index samples, Index rows, Index channels, const void* const* convolved, int num_plain,
                 const void* const* plain, const float* const* gamma, const float* const* beta,
                 float* const* running_mean, float* const* running_var, const float* eps, const float* momentum,
                 float* mean, float* inverse, void* value, void* rectified) {
  if constexpr (K <= kMaxTerms) {
    if (num_convolved == K && samples)
      forward_each<T, K>(samples, rows, channels, as<T>(convolved), num_plain, as<T>(plain), gamma, beta, eps, mean,
                         inverse, static_cast<T*>(value), static_cast<T*>(rectified));
    else if (num_convolved == K)
      forward<T, K>(rows, channels, as<T>(convolved), num_plain, as<T>(plain), gamma, beta, running_mean, running_var,
                    eps, momentum, mean, inverse, static_cast<T*>(value), static_cast<T*>(rectified));
    else
      forward_any<T, K + 1>(num_convolved, samples, rows, channels, convolved, num_plain, plain, gamma, beta, running_mean,
                            running_var, eps, momentum, mean, inverse, value, rectified);
  }
}

template <typename T, int K = 0>
void backward_any(int num_convolved, Index samples, Index rows, Index channels, const void* of_value, const void* of_rectified,
                  const void* positive_where, const void* const* convolved, const float* const* gamma,
                  const float* mean, const float* inverse, void* gradient, void* const* gradients,
                  float* const* of_gamma, float* const* of_beta) {
  if constexpr (K <= kMaxTerms) {
    const Incoming<T> incoming{static_cast<const T*>(of_value), static_cast<const T*>(of_rectified),
                               static_cast<const T*>(positive_where)};
    if (num_convolved == K && samples)
      backward_each<T, K>(samples, rows, channels, incoming, as<T>(convolved), gamma, mean, inverse,
                          static_cast<T*>(gradient), reinterpret_cast<T* const*>(gradients));
    else if (num_convolved == K)
      backward<T, K>(rows, channels, incoming, as<T>(convolved), gamma, mean, inverse, static_cast<T*>(gradient),
                     reinterpret_cast<T* const*>(gradients), of_gamma, of_beta);
    else
      backward_any<T, K + 1>(num_convolved, samples, rows, channels, of_value, of_rectified, positive_where, convolved, gamma,
                             mean, inverse, gradient, gradients, of_gamma, of_beta);
  }
}

}  // namespace

extern "C" {

int max_terms() { return kMaxTerms; }

// samples: 0 normalises by all rows together, else `rows` are those of one sample
void node_forward(int is_bf16, int num_convolved, Index samples, Index rows, Index channels, const void* const* convolved,
                  int num_plain, const void* const* plain, const float* const* gamma, const float* const* beta,
                  float* const* running_mean, float* const* running_var, const float* eps, const float* momentum,
                  float* mean, float* inverse, void* value, void* rectified) {
  (is_bf16 ? forward_any<bf16> : forward_any<float>)(num_convolved, samples, rows, channels, convolved, num_plain, plain, gamma,
                                                     beta, running_mean, running_var, eps, momentum, mean, inverse,
                                                     value, rectified);
}

void node_backward(int is_bf16, int num_convolved, Index samples, Index rows, Index channels, const void* of_value,
                   const void* of_rectified, const void* positive_where, const void* const* convolved,
                   const float* const* gamma, const float* mean, const float* inverse, void* gradient,
                   void* const* gradients, float* const* of_gamma, float* const* of_beta) {
  (is_bf16 ? backward_any<bf16> : backward_any<float>)(num_convolved, samples, rows, channels, of_value, of_rectified,
                                                       positive_where, convolved, gamma, mean, inverse, gradient,
                                                       gradients, of_gamma, of_beta);
}

void average_3x3(int is_bf16, Index batch, Index height, Index width, Index channels, const void* x, void* y,
                 int transposed) {
  if (is_bf16)
    average(batch, height, width, channels, static_cast<const bf16*>(x), static_cast<bf16*>(y), transposed);
  else
    average(batch, height, width, channels, static_cast<const float*>(x), static_cast<float*>(y), transposed);
}

// x in bf16 only with a gradient in bf16
void sign_sums(int x_is_bf16, int is_bf16, const Convolution* conv, const void* x, const void* gradient, int32_t* signs) {
  if (x_is_bf16)
    sign_sums(*conv, static_cast<const bf16*>(x), static_cast<const bf16*>(gradient), signs);
  else if (is_bf16)
    sign_sums(*conv, static_cast<const float*>(x), static_cast<const bf16*>(gradient), signs);
  else
    sign_sums(*conv, static_cast<const float*>(x), static_cast<const float*>(gradient), signs);
}

Index sample_gradient_size(const Convolution* conv) { return SampleGradient<float, float>(*conv).size(); }

void sample_gradients(const Convolution* conv, const float* x, const float* gradient, float* gradients) {
  sample_gradients(*conv, x, gradient, gradients);
}
}
