// Runs CUDA C++ on the CPU. The threads of a block are fibers of one thread: each runs until the
// next barrier, and a barrier that not all threads of a block reach is an error.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
static Index blockIdx, threadIdx, gridDim, blockDim;

#define __global__
#define __device__
#define __grid_constant__
#define __launch_bounds__(...)

using std::abs;
using std::fabs;
using std::fma;
using std::max;
using std::min;
using std::rint;
using std::sqrt;

static unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t{a} * b) >> 32; }
static uint64_t __umul64hi(uint64_t a, uint64_t b) {
    return static_cast<unsigned __int128>(a) * b >> 64;
}

static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<char> ended;
static unsigned current;

static void __syncthreads() { swapcontext(&fibers[current], &scheduler); }

template <typename T> static T argument(void *value) {
    if constexpr (std::is_pointer_v<T>) {
        return static_cast<T>(value);
    } else {
        return *static_cast<T *>(value);
    }
}

template <typename... A> struct Call {
    void (*kernel)(A...);
    void **values;
    template <std::size_t... I> void with(std::index_sequence<I...>) {
        kernel(argument<std::remove_const_t<A>>(values[I])...);
    }
    void operator()() { with(std::index_sequence_for<A...>{}); }
};

static void (*body)(void *);
static void *call;

static void fiber() {
    body(call);
    ended[current] = 1;
    swapcontext(&fibers[current], &scheduler);
}

template <typename... A>
static void launch(void (*kernel)(A...), void **values, unsigned blocks, unsigned threads) {
    constexpr std::size_t STACK = 1 << 16;
    static std::vector<char> stacks;
    Call<A...> of_thread{kernel, values};
    call = &of_thread;
    body = [](void *call) { (*static_cast<Call<A...> *>(call))(); };
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    stacks.resize(STACK * threads);
    fibers.resize(threads);
    for (unsigned block = 0; block < blocks; block++) {
        ended.assign(threads, 0);
        for (unsigned thread = 0; thread < threads; thread++) {
            getcontext(&fibers[thread]);
            fibers[thread].uc_stack.ss_sp = stacks.data() + STACK * thread;
            fibers[thread].uc_stack.ss_size = STACK;
            fibers[thread].uc_link = nullptr;
            makecontext(&fibers[thread], fiber, 0);
        }
        unsigned count = 0;
        while (count < threads) {
            for (unsigned thread = 0; thread < threads; thread++) {
                if (ended[thread]) continue;
                current = thread;
                blockIdx = {block, 0, 0};
                threadIdx = {thread, 0, 0};
                swapcontext(&scheduler, &fibers[thread]);
                count += ended[thread];
            }
            if (count != 0 && count != threads) {
                std::fprintf(stderr, "%u of %u threads ended before a barrier\n", count, threads);
                std::abort();
            }
        }
    }
}
