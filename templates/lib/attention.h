// attention.h - what the kernels of attention over pages have in common: which keys are seen, in which order their pages are folded, where they lie.

DEVICE int lesser(int a, int b) { return a < b ? a : b; }
DEVICE int greater(int a, int b) { return a > b ? a : b; }
DEVICE float higher(float a, float b) { return fmaxf(a, b); } // without a NaN, whose weight is one

DEVICE int first_key(int pos, int window) { return window ? greater(pos - window + 1, 0) : 0; } // that the token at pos sees; pos is the last

// The first page from `from` on that is wave `wave`'s.
template <int WAVES> DEVICE int own_page(int wave, int from) { return from + ((wave - from) & (WAVES - 1)); }

#define SCORE_SCALE(D) (float)(1.4426950408889634 / sqrt((double)(D))) // weights are powers of 2

// A sum of values by weights that are powers of 2: top is the exponent of the highest, to which sum and the values refer. Two are folded by
// multiplying both with what `fold` gives; a fold of nothing, whose top is -infinity, changes nothing.
struct Fold {
    float keep, share, top; // of what was there; of what comes; of both
    DEVICE Fold of(float top, float other) {
        const float now = higher(top, other), some = now == -__builtin_inff() ? 0.f : now;
        return {power_of_2(top - some), power_of_2(other - some), now};
    }
};

template <int NKV, int PAGE, int D> struct Cache {
    const bf16 *state;
    METHOD const bf16 *keys(int page, int kv) const { return state + ((long)page * 2 * NKV + kv) * PAGE * D; }
    METHOD const bf16 *values(int page, int kv) const { return keys(page, kv) + (long)NKV * PAGE * D; }
};
