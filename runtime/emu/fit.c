/* fit.c - do an instruction's operands hold what its execution will touch? The executor indexes registers and lanes without
 * looking again, so every register file, count and lane number is checked here, once, when the instruction is decoded. */
#include "decode.h"

static bool vgprs(const Operand *o, int n) { return o->where == W_VGPR && o->dwords >= n; }

/* Pairs of 64 bits are read as such: from an even register on. */
static bool sgprs(const Operand *o, int n) {
    return o->where == W_SGPR && o->dwords >= n && o->reg + n <= R_SGPRS && (n == 1 || o->reg % 2 == 0);
}

static bool scalar(const Operand *o, int n) { return sgprs(o, n) || o->where == W_CONST || o->where == W_SPECIAL; }
static bool vector(const Operand *o, int n) { return vgprs(o, n) || scalar(o, n); }

static int dwords(Type t) {
    switch (t) {
    case T_u64:
    case T_i64:
    case T_f64:
    case T_c64:
    case T_q32:
    case T_mask: return 2;
    default: return 1;
    }
}

static bool fits_vector(const Inst *i) {
    const Op *op = i->op;
    bool ok = op->family == F_COMPARE || vgprs(&i->d, dwords(op->dt));
    for (int k = 0; k < i->nsrc; k++) ok &= vector(&i->s[k], dwords(op->st[k]));
    if (op->family == F_COMPARE || op->flags & OP_CARRY_OUT) ok &= sgprs(&i->mask, 2);
    if (op->flags & OP_CARRY_IN) ok &= sgprs(&i->s[3], 2);
    return ok;
}

static bool fits_vx(const Inst *i) {
    const char *n = i->op->name;
    const Operand *s = i->s;
    if (!strcmp(n, "v_nop") || !strcmp(n, "v_clrexcp")) return true;
    if (!strcmp(n, "v_pk_mov_b32")) return vgprs(&i->d, 2) && vector(&s[0], 2) && vector(&s[1], 2);
    if (!strcmp(n, "v_cndmask_b32")) return vgprs(&i->d, 1) && vector(&s[0], 1) && vector(&s[1], 1) && scalar(&s[3], 2);
    if (!strcmp(n, "v_readfirstlane_b32")) return sgprs(&i->d, 1) && vector(&s[0], 1);
    if (!strcmp(n, "v_readlane_b32")) return sgprs(&i->d, 1) && vector(&s[0], 1) && scalar(&s[1], 1);
    if (!strcmp(n, "v_writelane_b32")) return vgprs(&i->d, 1) && scalar(&s[0], 1) && scalar(&s[1], 1);
    if (!strcmp(n, "v_swap_b32")) return vgprs(&i->d, 1) && vgprs(&s[0], 1);
    return vgprs(&i->d, 1) && vector(&s[0], 1) && vector(&s[1], 1); /* v_mbcnt */
}

static bool fits_mfma(const Inst *i) {
    const Op *op = i->op;
    bool wide = op->dt == T_f64, half = op->dt == T_f16 || op->dt == T_h16;
    int per_lane = op->b / (LANES / op->a / op->c), in = wide ? 2 : half ? (per_lane + 1) / 2 : 1;
    int out = (op->a == 4 && !wide ? 4 : op->a * op->a * op->c / LANES) * (wide ? 2 : 1);
    bool blocks = i->cbsz < 5 && 1 << i->cbsz <= op->c && i->abid < 1 << i->cbsz && i->blgp < 8;
    return blocks && vgprs(&i->s[0], in) && vgprs(&i->s[1], in) && vgprs(&i->d, out) &&
           (vgprs(&i->s[2], out) || i->s[2].where == W_CONST);
}

static bool fits_scalar(const Inst *i) {
    const Op *op = i->op;
    bool ok = op->family == F_SCALAR_COMPARE || sgprs(&i->d, dwords(op->dt));
    for (int k = 0; k < i->nsrc; k++) ok &= scalar(&i->s[k], dwords(op->st[k]));
    return ok;
}

static bool fits_sx(const Inst *i) {
    const char *n = i->op->name;
    if (strstr(n, "getreg")) return sgprs(&i->d, 1) && i->abid < 32 && i->blgp >= 1 && i->blgp <= 32;
    if (strstr(n, "setreg")) return scalar(&i->s[0], 1) && i->abid < 32 && i->blgp >= 1 && i->blgp <= 32;
    if (!strcmp(n, "s_set_gpr_idx_on") || !strcmp(n, "s_set_gpr_idx_idx")) return scalar(&i->s[0], 1);
    if (!strcmp(n, "s_getpc_b64") || !strcmp(n, "s_call_b64")) return sgprs(&i->d, 2);
    if (!strcmp(n, "s_setpc_b64")) return scalar(&i->s[0], 2);
    if (!strcmp(n, "s_swappc_b64")) return sgprs(&i->d, 2) && scalar(&i->s[0], 2);
    if (strstr(n, "movrel")) {
        int w = strstr(n, "b64") ? 2 : 1;
        return sgprs(&i->d, w) && (strstr(n, "movrels") ? sgprs(&i->s[0], w) : scalar(&i->s[0], w));
    }
    return true;
}

static bool fits_smem(const Inst *i) {
    const char *n = i->op->name;
    if (!sgprs(&i->d, i->op->a)) return false;
    if (strstr(n, "time")) return true;
    return sgprs(&i->s[0], strstr(n, "buffer") ? 4 : 2) && scalar(&i->s[1], 1);
}

/* Dwords of a memory instruction's register; a compare-and-swap's data are two values. */
static int moved(const Op *op) { return (op->a + 3) / 4; }
static int data_of(const Op *op) { return moved(op) * (strstr(op->name, "cmpswap") ? 2 : 1); }

static bool fits_flat(const Inst *i) {
    const Op *op = i->op;
    bool load = strstr(op->name, "_load") != NULL, dst = load || (op->atom && i->glc);
    const Operand *at = &i->s[0], *base = &i->s[2];
    bool ok = (!dst || vgprs(&i->d, moved(op))) && (load || vgprs(&i->s[1], data_of(op)));
    if (op->family == F_FLAT) return ok && vgprs(at, 2);
    if (op->family == F_GLOBAL) return ok && (base->where == W_OFF ? vgprs(at, 2) : vgprs(at, 1) && sgprs(base, 2));
    return ok && (at->where == W_OFF || vgprs(at, 1)) && (base->where == W_OFF || sgprs(base, 1));
}

static bool fits_buffer(const Inst *i) {
    const Operand *at = &i->s[0];
    return vgprs(&i->s[1], data_of(i->op)) && (at->where == W_OFF || vgprs(at, 1)) && sgprs(&i->s[2], 4) &&
           scalar(&i->s[3], 1);
}

static bool fits_ds(const Inst *i) {
    const Op *op = i->op;
    const char *n = op->name;
    const Operand *s = i->s;
    int w = moved(op);
    if (!strcmp(n, "ds_nop")) return true;
    if (!strcmp(n, "ds_append") || !strcmp(n, "ds_consume") || !strcmp(n, "ds_read_addtid_b32")) return vgprs(&i->d, 1);
    if (!strcmp(n, "ds_write_addtid_b32")) return vgprs(&s[0], 1);
    if (!strcmp(n, "ds_swizzle_b32")) return vgprs(&i->d, 1) && vgprs(&s[0], 1);
    if (strstr(n, "permute")) return vgprs(&i->d, 1) && vgprs(&s[0], 1) && vgprs(&s[1], 1);
    if (!vgprs(&s[0], 1)) return false;
    if (op->atom)
        return (!(op->flags & OP_RETURNS) || vgprs(&i->d, w)) && vgprs(&s[1], w) &&
               (s[2].where != W_VGPR || vgprs(&s[2], w));
    if (strstr(n, "read2")) return vgprs(&i->d, 2 * w);
    if (strstr(n, "write2")) return vgprs(&s[1], w) && vgprs(&s[2], w);
    return strstr(n, "write") ? vgprs(&s[1], w) : vgprs(&i->d, w);
}

bool inst_fits(const Inst *i) {
    if (i->dpp) EACH_LANE if (i->dpp->from[l] >= LANES) return false;
    switch ((Family)i->op->family) {
    case F_VECTOR:
    case F_PACKED:
    case F_COMPARE: return fits_vector(i);
    case F_VX: return fits_vx(i);
    case F_MFMA: return fits_mfma(i);
    case F_SCALAR:
    case F_SCALAR_COMPARE: return fits_scalar(i);
    case F_SOPK: return sgprs(&i->d, 1);
    case F_BRANCH: return true;
    case F_SX: return fits_sx(i);
    case F_SMEM: return fits_smem(i);
    case F_GLOBAL:
    case F_FLAT:
    case F_SCRATCH: return fits_flat(i);
    case F_BUFFER: return fits_buffer(i);
    case F_DS: return fits_ds(i);
    }
    return false;
}
