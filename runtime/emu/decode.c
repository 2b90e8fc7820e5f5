/* decode.c - one line of comgr's disassembly to a decoded instruction.
 *
 * The text is the decoder's only source: mnemonic (with _e32, _e64, _sdwa or _dpp), operands between commas, then
 * modifiers between spaces. What cannot be decoded becomes an instruction that reports itself when it is executed, so
 * that a kernel with an unknown instruction in code that never runs still runs.
 * An operand's constant depends on the operand's type: see const_value. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "decode.h"
#include "lanemath.h"

typedef struct Line Line;
struct Line {
    char buf[256], mnemonic[64];
    char *op[12], *mod[16];
    int n_ops, n_mods;
};

static const uint8_t type_dwords[] = {
    [T_none] = 1, [T_u32] = 1, [T_i32] = 1, [T_f32] = 1, [T_u64] = 2, [T_i64] = 2, [T_f64] = 2, [T_u16] = 1, [T_i16] = 1,
    [T_f16] = 1, [T_h16] = 1, [T_c32] = 1, [T_c64] = 2, [T_p16u] = 1, [T_p16i] = 1, [T_p16f] = 1, [T_q32] = 2,
    [T_mix] = 1, [T_mask] = 2,
};
static const uint8_t type_floats[] = {
    [T_f32] = FK_F32, [T_f64] = FK_F64, [T_f16] = FK_F64, [T_p16f] = FK_F64, [T_q32] = FK_F32,
    [T_mix] = FK_F32 | FK_F64, [T_mask] = 0,
};

static bool fail(Decoder *d, const char *fmt, ...) PRINTF(2, 3);
static bool fail(Decoder *d, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->why, sizeof d->why, fmt, ap);
    va_end(ap);
    return false;
}

/* --- splitting ------------------------------------------------------------------------------------------------------ */

/* End of an operand or modifier: a separator outside brackets and quotes. */
static char *token_end(char *p, const char *stops) {
    int depth = 0;
    bool quoted = false;
    for (; *p; p++) {
        if (*p == '"') quoted = !quoted;
        if (quoted) continue;
        if (*p == '[' || *p == '(') depth++;
        else if (*p == ']' || *p == ')') depth--;
        else if (!depth && strchr(stops, *p)) break;
    }
    return p;
}

static void split(Line *ln, const char *text) {
    memset(ln, 0, sizeof *ln);
    snprintf(ln->buf, sizeof ln->buf, "%s", text);
    char *p = ln->buf + strspn(ln->buf, " \t");
    char *cut = strstr(p, "//");
    if (cut) *cut = 0;
    for (size_t n = strlen(p); n && isspace((unsigned char)p[n - 1]);) p[--n] = 0;
    size_t n = strcspn(p, " \t");
    snprintf(ln->mnemonic, sizeof ln->mnemonic, "%.*s", (int)n, p);
    for (p += n; *p && ln->n_ops < (int)LEN(ln->op);) {
        p += strspn(p, " \t");
        char *e = token_end(p, ", \t"), stop = *e;
        ln->op[ln->n_ops++] = p;
        *e = 0;
        p = e + (stop != 0);
        if (stop != ',') break;
    }
    while (*p && ln->n_mods < (int)LEN(ln->mod)) {
        p += strspn(p, " \t");
        char *e = token_end(p, " \t"), stop = *e;
        if (e > p) ln->mod[ln->n_mods++] = p;
        *e = 0;
        p = e + (stop != 0);
    }
}

/* The value of modifier "name:value" (in base 0), or otherwise. */
static const char *mod_text(const Line *ln, const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < ln->n_mods; i++)
        if (!strncmp(ln->mod[i], name, n) && (ln->mod[i][n] == ':' || !ln->mod[i][n])) return ln->mod[i] + n + (ln->mod[i][n] == ':');
    return NULL;
}

static long mod_int(const Line *ln, const char *name, long otherwise) {
    const char *v = mod_text(ln, name);
    return v ? strtol(v, NULL, 0) : otherwise;
}

/* "[1,0,1]" to bits, first element lowest; otherwise when absent. */
static uint8_t mod_bits(const Line *ln, const char *name, uint8_t otherwise) {
    const char *v = mod_text(ln, name);
    if (!v) return otherwise;
    uint8_t r = 0, bit = 1;
    for (; *v; v++)
        if (*v == '0' || *v == '1') r |= *v == '1' ? bit : 0, bit = (uint8_t)(bit << 1);
    return r;
}

/* --- constants ------------------------------------------------------------------------------------------------------- */

/* The same rows for the same value: found by its digits, for code may be nothing but literals. */
static const uint32_t *const_rows(Decoder *d, uint64_t value) {
    char key[20];
    snprintf(key, sizeof key, "%llx", (unsigned long long)value);
    uint32_t *rows = map_get(&d->rows, key);
    if (rows) return rows;
    rows = arena_alloc(d->arena, 2 * LANES * 4);
    for (int l = 0; l < LANES; l++) rows[l] = (uint32_t)value, rows[LANES + l] = (uint32_t)(value >> 32);
    map_put(&d->rows, arena_strdup(d->rows.arena, key), rows);
    return rows;
}

/* "0.5" is encoded by the operand's width; 1/(2 pi) is the one value whose printed digits are not exact. An integer
 * inline constant is a bit pattern, sign-extended; a literal of an f64 is its upper half. */
static uint64_t const_value(const char *s, Type t) {
    bool wide = type_dwords[t] == 2 && t != T_q32, half = t == T_u16 || t == T_i16 || t == T_f16 || t == T_h16 || t == T_p16u || t == T_p16i || t == T_p16f;
    bool hex = !strncmp(s, "0x", 2);
    if (!hex && strpbrk(s, ".en")) {
        double v = strtod(s, NULL);
        bool inv = fabs(fabs(v) - 0.15915494309189532) < 1e-6;
        if (wide) return inv ? 0x3fc45f306dc9c882ull | (uint64_t)(v < 0) << 63 : bits_of_f64(v);
        if (half) return inv ? 0x3118u | (v < 0 ? 0x8000u : 0) : f16_of_f32((float)v);
        return inv ? 0x3e22f983u | (v < 0 ? 0x80000000u : 0) : bits_of_f32((float)v);
    }
    uint64_t v = hex ? strtoull(s, NULL, 16) : (uint64_t)strtoll(s, NULL, 0); /* s_load's offset may be "-0x8" */
    if (hex && (t == T_f64 || t == T_c64) && v <= UINT32_MAX) return v << 32;
    if (hex && t == T_i64 && v <= UINT32_MAX) return (uint64_t)(int64_t)(int32_t)v;
    return wide ? v : (uint32_t)v;
}

/* --- operands -------------------------------------------------------------------------------------------------------- */

static const struct NamedReg { const char *name; uint16_t reg; uint8_t dwords; } named[] = {
    {"vcc", R_VCC, 2}, {"vcc_lo", R_VCC, 1}, {"vcc_hi", R_VCC + 1, 1},
    {"exec", R_EXEC, 2}, {"exec_lo", R_EXEC, 1}, {"exec_hi", R_EXEC + 1, 1},
    {"m0", R_M0, 1}, {"flat_scratch", R_FLAT_SCRATCH, 2}, {"flat_scratch_lo", R_FLAT_SCRATCH, 1},
    {"flat_scratch_hi", R_FLAT_SCRATCH + 1, 1}, {"xnack_mask", 104, 2}, {"xnack_mask_lo", 104, 1}, {"xnack_mask_hi", 105, 1},
};

static const struct NamedConst { const char *name; uint64_t value; } named_consts[] = {
    {"src_shared_base", SHARED_BASE}, {"src_shared_limit", SHARED_BASE | 0xffffffff},
    {"src_private_base", PRIVATE_BASE}, {"src_private_limit", PRIVATE_BASE | 0xffffffff},
    {"src_pops_exiting_wave_id", 0},
};

static const struct NamedSpecial { const char *name; uint8_t what; } specials[] = {
    {"src_scc", SPECIAL_SCC}, {"scc", SPECIAL_SCC}, {"src_vccz", SPECIAL_VCCZ}, {"vccz", SPECIAL_VCCZ},
    {"src_execz", SPECIAL_EXECZ}, {"execz", SPECIAL_EXECZ},
};

enum { MAX_DWORDS = 32 }; /* the largest operand: an MFMA's */

/* "5" or "[4:7]" after the file's letter. */
static bool reg_range(const char *s, unsigned *at, unsigned *n) {
    char *e;
    bool range = *s == '[';
    if (!isdigit((unsigned char)s[range])) return false;
    *at = (unsigned)strtoul(s + range, &e, 10), *n = 1;
    if (!range) return !*e;
    if (*e == ':') *n = (unsigned)strtoul(e + 1, &e, 10) - *at + 1;
    return *e == ']' && !e[1] && *n >= 1 && *n <= MAX_DWORDS;
}

static bool reg_operand(Decoder *d, Operand *o, const char *s) {
    unsigned at, n;
    uint8_t where = *s == 's' ? W_SGPR : W_VGPR;
    unsigned limit = *s == 's' ? 102 : 256, base = *s == 'a' ? R_AGPR : 0;
    if (!reg_range(s + 1, &at, &n)) return false;
    if (at >= limit || n > limit - at) return fail(d, "register %s is out of range", s);
    o->where = where, o->reg = (uint16_t)(at + base), o->dwords = (uint8_t)n;
    return true;
}

static bool named_operand(Operand *o, const char *s) {
    for (size_t i = 0; i < LEN(named); i++)
        if (!strcmp(s, named[i].name)) return o->where = W_SGPR, o->reg = named[i].reg, o->dwords = named[i].dwords, true;
    for (size_t i = 0; i < LEN(specials); i++)
        if (!strcmp(s, specials[i].name)) return o->where = W_SPECIAL, o->reg = specials[i].what, true;
    return false;
}

static bool const_operand(Decoder *d, Operand *o, const char *s) {
    bool found = isdigit((unsigned char)s[*s == '-']);
    uint64_t v = found ? const_value(s, o->type) : 0;
    for (size_t i = 0; i < LEN(named_consts); i++)
        if (!strcmp(s, named_consts[i].name))
            found = true, v = o->dwords == 2 ? named_consts[i].value : named_consts[i].value >> 32;
    if (!found) return false;
    o->where = W_CONST, o->imm = v, o->rows = const_rows(d, v);
    return true;
}

static bool operand(Decoder *d, Operand *o, Type type, const char *text) {
    char buf[96], *s = buf;
    memset(o, 0, sizeof *o);
    o->type = (uint8_t)type, o->dwords = type_dwords[type], o->sel = SEL_DWORD;
    snprintf(buf, sizeof buf, "%s", text);
    size_t n = strlen(s);
    if (!strncmp(s, "sext(", 5) && n > 6) s[n - 1] = 0, s += 5, o->sext = 1;
    else if (!strncmp(s, "neg(", 4) && n > 5) s[n - 1] = 0, s += 4, o->neg = 1;
    if (*s == '-' && !isdigit((unsigned char)s[1])) s++, o->neg = 1;
    n = strlen(s);
    if (*s == '|' && n > 2) s[n - 1] = 0, s++, o->abs = 1;
    if (!strcmp(s, "off")) return o->where = W_OFF, true;
    if (named_operand(o, s) || const_operand(d, o, s)) return true;
    if (strchr("vsa", *s) && *s && reg_operand(d, o, s)) return true;
    return *d->why ? false : fail(d, "operand '%s' is not implemented", text);
}

/* --- modifiers ------------------------------------------------------------------------------------------------------- */

static const char *const sel_names[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD"};
static uint8_t sel_of(const char *s) {
    for (uint8_t i = 0; s && i < LEN(sel_names); i++)
        if (!strcmp(s, sel_names[i])) return i;
    return SEL_DWORD;
}

static void decode_sdwa(Inst *i, const Line *ln) {
    const char *unused = mod_text(ln, "dst_unused");
    i->sdwa = 1;
    i->dst_sel = sel_of(mod_text(ln, "dst_sel"));
    i->dst_unused = !unused || !strcmp(unused, "UNUSED_PAD") ? 0 : !strcmp(unused, "UNUSED_SEXT") ? 1 : 2;
    i->s[0].sel = sel_of(mod_text(ln, "src0_sel"));
    i->s[1].sel = sel_of(mod_text(ln, "src1_sel"));
}

/* Where lane l reads from under each DPP control; -1 is outside. Rows are 16 lanes. */
static int dpp_from(const char *ctl, int k, const int *quad, int l) {
    int row = l & ~15, in = l & 15;
    if (!strcmp(ctl, "quad_perm")) return (l & ~3) + quad[l & 3];
    if (!strcmp(ctl, "row_shl")) return in + k < 16 ? l + k : -1;
    if (!strcmp(ctl, "row_shr")) return in - k >= 0 ? l - k : -1;
    if (!strcmp(ctl, "row_ror")) return row + ((in - k) & 15);
    if (!strcmp(ctl, "wave_shl")) return l + 1 < LANES ? l + 1 : -1;
    if (!strcmp(ctl, "wave_rol")) return (l + 1) & 63;
    if (!strcmp(ctl, "wave_shr")) return l - 1;
    if (!strcmp(ctl, "wave_ror")) return (l - 1) & 63;
    if (!strcmp(ctl, "row_mirror")) return row + 15 - in;
    if (!strcmp(ctl, "row_half_mirror")) return (l & ~7) + 7 - (l & 7);
    if (!strcmp(ctl, "row_newbcast")) return row + k;
    if (!strcmp(ctl, "row_bcast")) return k == 15 ? row - 1 : l < 32 ? -1 : 31;
    return -2;
}

static bool decode_dpp(Decoder *d, Inst *i, const Line *ln) {
    static const char *const ctls[] = {"quad_perm", "row_shl", "row_shr", "row_ror", "wave_shl", "wave_rol", "wave_shr",
                                       "wave_ror", "row_mirror", "row_half_mirror", "row_newbcast", "row_bcast"};
    Dpp *p = arena_alloc(d->arena, sizeof *p);
    const char *ctl = NULL, *v = NULL;
    for (size_t k = 0; k < LEN(ctls) && !v; k++) ctl = ctls[k], v = mod_text(ln, ctl);
    if (!v) return fail(d, "its DPP control is not implemented");
    int quad[4] = {0}, k = (int)strtol(v, NULL, 0);
    sscanf(v, "[%d,%d,%d,%d]", &quad[0], &quad[1], &quad[2], &quad[3]);
    long row_mask = mod_int(ln, "row_mask", 15), bank_mask = mod_int(ln, "bank_mask", 15);
    p->zero = mod_text(ln, "bound_ctrl") != NULL;
    EACH_LANE {
        p->from[l] = (int8_t)dpp_from(ctl, k, quad, l);
        p->rows |= (uint64_t)(row_mask >> l / 16 & bank_mask >> l % 16 / 4 & 1) << l;
    }
    /* A row broadcast writes only lanes that have a row below; the others keep their value. */
    i->dpp = p;
    return true;
}

static bool decode_mods(Decoder *d, Inst *i, const Line *ln) {
    static const struct { const char *text; uint8_t omod; } omods[] = {{"mul:2", 1}, {"mul:4", 2}, {"div:2", 3}};
    uint8_t all = (uint8_t)((1 << i->nsrc) - 1);
    for (int k = 0; k < ln->n_mods; k++)
        for (size_t o = 0; o < LEN(omods); o++)
            if (!strcmp(ln->mod[k], omods[o].text)) i->omod = omods[o].omod;
    i->clamp = mod_text(ln, "clamp") != NULL;
    i->op_sel = mod_bits(ln, "op_sel", 0);
    i->op_sel_hi = mod_bits(ln, "op_sel_hi", i->op->family == F_PACKED || i->op->run == run_vector ? all : 0);
    bool dst_bit = i->op->family == F_VECTOR && i->nsrc < 3 && i->op_sel >> i->nsrc & 1; /* printed after the sources */
    if (dst_bit) i->op_sel = (uint8_t)((i->op_sel & all) | 8);
    if (i->op->nsrc && i->op->st[0] == T_mix) i->op_sel_hi = mod_bits(ln, "op_sel_hi", 0);
    i->neg_lo = mod_bits(ln, "neg_lo", 0), i->neg_hi = mod_bits(ln, "neg_hi", 0);
    const char *sdwa = strstr(ln->mnemonic, "_sdwa"), *dpp = strstr(ln->mnemonic, "_dpp");
    if (sdwa) decode_sdwa(i, ln);
    return !dpp || decode_dpp(d, i, ln);
}

/* --- families --------------------------------------------------------------------------------------------------------- */

static bool need(Decoder *d, const Line *ln, int n) {
    return ln->n_ops == n || fail(d, "%d operands where %d are expected", ln->n_ops, n);
}

static void settle_vector(Inst *i, Decoder *d) {
    const Op *op = i->op;
    uint8_t all = (uint8_t)((1 << i->nsrc) - 1);
    bool plain = !i->clamp && !i->omod && !i->sdwa && !i->dpp && !i->op_sel && !i->neg_lo && !i->neg_hi;
    if (op->family == F_PACKED || op->st[0] == T_p16f) plain &= (i->op_sel_hi & all) == all;
    if (op->st[0] == T_mix || (op->flags & OP_KEEP_HALF)) plain = false;
    i->floats = FK_INDEX | type_floats[op->dt];
    for (int k = 0; k < i->nsrc; k++) {
        plain &= !i->s[k].neg && !i->s[k].abs && !i->s[k].sext;
        i->floats |= type_floats[op->st[k]];
    }
    i->plain = plain;
    i->lane = d->lanes[op->lane];
}

/* dst [, carry out], sources … [, carry in] */
static bool decode_vector(Decoder *d, Inst *i, const Line *ln) {
    const Op *op = i->op;
    bool acc = op->flags & OP_ACC, out = op->flags & OP_CARRY_OUT, in = op->flags & OP_CARRY_IN;
    int n = op->nsrc - acc, at = 0;
    i->nsrc = op->nsrc;
    if (!need(d, ln, 1 + out + n + in) || !decode_mods(d, i, ln)) return false;
    if (!operand(d, &i->d, op->dt, ln->op[at++])) return false;
    if (out && !operand(d, &i->mask, T_mask, ln->op[at++])) return false;
    uint8_t sel[2] = {i->s[0].sel, i->s[1].sel};
    for (int k = 0; k < n; k++) {
        Type t = op->st[k];
        bool half = t == T_mix && i->op_sel_hi >> k & 1;
        if (!operand(d, &i->s[k], half ? T_f16 : t, ln->op[at++])) return false;
        i->s[k].type = (uint8_t)t;
        if (i->sdwa && k < 2) i->s[k].sel = sel[k];
    }
    if (acc) i->s[n] = i->d;
    if (in && !operand(d, &i->s[3], T_mask, ln->op[at])) return false;
    if (i->clamp && out) return fail(d, "clamp is not implemented here");
    settle_vector(i, d);
    return true;
}

static bool decode_compare(Decoder *d, Inst *i, const Line *ln) {
    i->nsrc = 2;
    if (!need(d, ln, 3) || !decode_mods(d, i, ln)) return false;
    uint8_t sel[2] = {i->s[0].sel, i->s[1].sel};
    if (!operand(d, &i->mask, T_mask, ln->op[0])) return false;
    for (int k = 0; k < 2; k++) {
        if (!operand(d, &i->s[k], i->op->st[k], ln->op[1 + k])) return false;
        if (i->sdwa) i->s[k].sel = sel[k];
    }
    i->clamp = 0; /* on a compare it only chooses whether a NaN signals */
    settle_vector(i, d);
    return true;
}

/* Hand-written ones: the first operand is the destination, then sources as untyped dwords; v_cndmask's last is a mask. */
static bool decode_vx(Decoder *d, Inst *i, const Line *ln) {
    bool pair = !strcmp(i->op->name, "v_pk_mov_b32"), cnd = !strcmp(i->op->name, "v_cndmask_b32");
    Type t = pair ? T_u64 : T_u32;
    if (ln->n_ops > 5) return fail(d, "too many operands");
    i->nsrc = (uint8_t)(ln->n_ops ? ln->n_ops - 1 : 0);
    if (cnd) i->nsrc = 2;
    if (!decode_mods(d, i, ln)) return false;
    uint8_t sel[2] = {i->s[0].sel, i->s[1].sel};
    if (ln->n_ops && !operand(d, &i->d, t, ln->op[0])) return false;
    for (int k = 1; k < ln->n_ops; k++) {
        if (!operand(d, &i->s[k - 1], cnd && k == 3 ? T_mask : t, ln->op[k])) return false;
        if (i->sdwa && k < 3) i->s[k - 1].sel = sel[k - 1];
    }
    if (cnd) i->s[3] = i->s[2];
    i->floats = FK_INDEX;
    i->plain = !i->sdwa && !i->dpp && !i->clamp && !i->omod;
    for (int k = 0; k < i->nsrc; k++) i->plain &= !i->s[k].neg && !i->s[k].abs && !i->s[k].sext;
    if (pair) i->op_sel_hi = mod_bits(ln, "op_sel_hi", 3);
    if ((i->sdwa || i->dpp || i->clamp) && !cnd) return fail(d, "its modifiers are not implemented");
    return true;
}

static bool decode_mfma(Decoder *d, Inst *i, const Line *ln) {
    static const Type acc_of[] = {[T_f32] = T_f32, [T_f16] = T_f32, [T_h16] = T_f32, [T_i32] = T_i32, [T_f64] = T_f64};
    if (!need(d, ln, 4)) return false;
    for (int k = 0; k < 4; k++)
        if (!operand(d, k ? &i->s[k - 1] : &i->d, acc_of[i->op->dt], ln->op[k])) return false;
    i->cbsz = (uint8_t)mod_int(ln, "cbsz", 0), i->abid = (uint8_t)mod_int(ln, "abid", 0);
    i->blgp = (uint8_t)mod_int(ln, "blgp", 0);
    if (i->op->dt == T_f64 && (i->cbsz || i->abid || i->blgp)) return fail(d, "modifiers of an f64 MFMA are not implemented");
    if (mod_text(ln, "neg") || mod_text(ln, "neg_lo")) return fail(d, "its modifiers are not implemented");
    return true;
}

static bool decode_scalar(Decoder *d, Inst *i, const Line *ln) {
    const Op *op = i->op;
    int first = op->family == F_SCALAR_COMPARE ? 0 : 1;
    if (!need(d, ln, first + op->nsrc)) return false;
    if (first && !operand(d, &i->d, op->dt, ln->op[0])) return false;
    for (int k = 0; k < op->nsrc; k++)
        if (!operand(d, &i->s[k], op->st[k], ln->op[first + k])) return false;
    i->nsrc = op->nsrc;
    return true;
}

/* Immediates of 16 bits print unsigned; the row's type says whether they are. */
static bool decode_sopk(Decoder *d, Inst *i, const Line *ln) {
    if (!need(d, ln, 2) || !operand(d, &i->d, T_u32, ln->op[0])) return false;
    uint16_t k = (uint16_t)strtol(ln->op[1], NULL, 0);
    i->offset = i->op->st[0] == T_i32 ? (int16_t)k : k;
    return true;
}

static bool decode_branch(Decoder *d, Inst *i, const Line *ln) {
    const char *simm = ln->n_ops ? ln->op[ln->n_ops - 1] : "";
    if (!isdigit((unsigned char)simm[*simm == '-'])) return fail(d, "branch target '%s'", simm);
    i->offset = (int16_t)strtol(simm, NULL, 0);
    return true;
}

static const struct HwReg { const char *name; int id; } hwregs[] = {
    {"HW_REG_MODE", 1}, {"HW_REG_STATUS", 2}, {"HW_REG_TRAPSTS", 3}, {"HW_REG_HW_ID", 4}, {"HW_REG_GPR_ALLOC", 5},
    {"HW_REG_LDS_ALLOC", 6}, {"HW_REG_IB_STS", 7}, {"HW_REG_SH_MEM_BASES", 15},
};

/* hwreg(NAME or id [, first bit, width]) */
static bool decode_hwreg(Decoder *d, Inst *i, const char *s) {
    char name[48] = "";
    int at = 0, width = 32, id = -1;
    if (sscanf(s, "hwreg(%47[^,)], %d, %d", name, &at, &width) < 1) return fail(d, "operand '%s'", s);
    for (size_t k = 0; k < LEN(hwregs); k++)
        if (!strcmp(name, hwregs[k].name)) id = hwregs[k].id;
    if (isdigit((unsigned char)*name)) id = atoi(name);
    i->cbsz = (uint8_t)id, i->abid = (uint8_t)at, i->blgp = (uint8_t)width;
    return id >= 0 || fail(d, "hardware register '%s' is not implemented", name);
}

static uint32_t gpr_idx_bits(const char *s) {
    uint32_t r = 0;
    if (strstr(s, "SRC0")) r |= 1;
    if (strstr(s, "SRC1")) r |= 2;
    if (strstr(s, "SRC2")) r |= 4;
    if (strstr(s, "DST")) r |= 8;
    return r;
}

static bool decode_sx(Decoder *d, Inst *i, const Line *ln) {
    const char *n = i->op->name;
    if (!strcmp(n, "s_barrier")) i->count = C_BARRIER;
    if (!strncmp(n, "buffer_", 7)) return i->count = C_VMEM, true;
    if (!strcmp(n, "s_getreg_b32")) return need(d, ln, 2) && operand(d, &i->d, T_u32, ln->op[0]) && decode_hwreg(d, i, ln->op[1]);
    if (!strncmp(n, "s_setreg", 8)) return need(d, ln, 2) && operand(d, &i->s[0], T_u32, ln->op[1]) && decode_hwreg(d, i, ln->op[0]);
    if (!strcmp(n, "s_set_gpr_idx_on")) {
        i->offset = (int32_t)gpr_idx_bits(ln->n_ops > 1 ? ln->op[1] : "");
        return need(d, ln, 2) && operand(d, &i->s[0], T_u32, ln->op[0]);
    }
    if (!strcmp(n, "s_set_gpr_idx_mode")) return i->offset = (int32_t)gpr_idx_bits(ln->n_ops ? ln->op[0] : ""), true;
    if (!strcmp(n, "s_set_gpr_idx_idx")) return need(d, ln, 1) && operand(d, &i->s[0], T_u32, ln->op[0]);
    if (!strcmp(n, "s_getpc_b64")) return need(d, ln, 1) && operand(d, &i->d, T_u64, ln->op[0]);
    if (!strcmp(n, "s_setpc_b64")) return i->count = C_BRANCH, need(d, ln, 1) && operand(d, &i->s[0], T_u64, ln->op[0]);
    if (!strcmp(n, "s_swappc_b64"))
        return i->count = C_BRANCH, need(d, ln, 2) && operand(d, &i->d, T_u64, ln->op[0]) && operand(d, &i->s[0], T_u64, ln->op[1]);
    if (!strcmp(n, "s_call_b64"))
        return i->count = C_BRANCH, need(d, ln, 2) && operand(d, &i->d, T_u64, ln->op[0]) && decode_branch(d, i, ln);
    if (!strncmp(n, "s_movrel", 8)) {
        Type t = strstr(n, "b64") ? T_u64 : T_u32;
        return need(d, ln, 2) && operand(d, &i->d, t, ln->op[0]) && operand(d, &i->s[0], t, ln->op[1]);
    }
    return true;
}

/* dst, base, offset (a constant, an SGPR, or an SGPR and offset:N) */
static bool decode_smem(Decoder *d, Inst *i, const Line *ln) {
    if (!operand(d, &i->d, T_u32, ln->n_ops ? ln->op[0] : "")) return false;
    if (ln->n_ops == 1) return true; /* s_memtime */
    i->offset = (int32_t)mod_int(ln, "offset", 0);
    return need(d, ln, 3) && operand(d, &i->s[0], T_u64, ln->op[1]) && operand(d, &i->s[1], T_i32, ln->op[2]);
}

static void decode_mem_mods(Inst *i, const Line *ln) {
    i->offset = (int32_t)mod_int(ln, "offset", 0);
    i->glc = mod_text(ln, "glc") != NULL, i->lds = mod_text(ln, "lds") != NULL;
    i->offen = mod_text(ln, "offen") != NULL, i->idxen = mod_text(ln, "idxen") != NULL;
    i->gds = mod_text(ln, "gds") != NULL;
}

/* loads: dst, address[, scalar]; stores: address, data[, scalar]; atomics: [dst,] address, data[, scalar] */
static bool decode_flat(Decoder *d, Inst *i, const Line *ln) {
    bool load = strstr(i->op->name, "_load") != NULL, scalar = i->op->family != F_FLAT;
    decode_mem_mods(i, ln);
    bool dst = load || (i->op->atom && i->glc), data = !load;
    int at = 0;
    if (!need(d, ln, dst + 1 + data + scalar)) return false;
    if (dst && !operand(d, &i->d, T_u32, ln->op[at++])) return false;
    if (!operand(d, &i->s[0], T_u32, ln->op[at++])) return false;
    if (data && !operand(d, &i->s[1], T_u32, ln->op[at++])) return false;
    if (i->lds) return fail(d, "a load to LDS is not implemented");
    return !scalar || operand(d, &i->s[2], i->op->family == F_SCRATCH ? T_u32 : T_u64, ln->op[at]);
}

/* data, address or off, descriptor, scalar offset */
static bool decode_buffer(Decoder *d, Inst *i, const Line *ln) {
    decode_mem_mods(i, ln);
    if (!need(d, ln, 4)) return false;
    if (i->lds || i->idxen) return fail(d, "its %s form is not implemented", i->lds ? "lds" : "idxen");
    if (!operand(d, &i->s[1], T_u32, ln->op[0])) return false;
    i->d = i->s[1];
    return operand(d, &i->s[0], T_u32, ln->op[1]) && operand(d, &i->s[2], T_u32, ln->op[2]) && operand(d, &i->s[3], T_u32, ln->op[3]);
}

/* ds_swizzle's pattern, from the numeric or the symbolic form */
static bool decode_swizzle(Decoder *d, Inst *i, const char *s) {
    int a, b, c, e;
    char pat[8];
    if (!s) return true;
    if (isdigit((unsigned char)*s)) return i->offset = (int32_t)strtol(s, NULL, 0), true;
    if (sscanf(s, "swizzle(QUAD_PERM,%d,%d,%d,%d)", &a, &b, &c, &e) == 4) return i->offset = 0x8000 | a | b << 2 | c << 4 | e << 6, true;
    if (sscanf(s, "swizzle(SWAP,%d)", &a) == 1) return i->offset = 0x1f | a << 10, true;
    if (sscanf(s, "swizzle(REVERSE,%d)", &a) == 1) return i->offset = 0x1f | (a - 1) << 10, true;
    if (sscanf(s, "swizzle(BROADCAST,%d,%d)", &a, &b) == 2) return i->offset = (0x1f & ~(a - 1)) | b << 5, true;
    if (sscanf(s, "swizzle(BITMASK_PERM,\"%5[01pi]\")", pat) != 1 && sscanf(s, "swizzle(BITMASK_PERM, \"%5[01pi]\")", pat) != 1)
        return fail(d, "swizzle '%s' is not implemented", s);
    for (int k = 0; k < 5; k++) { /* the first letter is lane bit 4: 0, 1, p(reserve), i(nvert) */
        int bit = 16 >> k;
        if (pat[k] == 'p' || pat[k] == 'i') i->offset |= bit;
        if (pat[k] == '1') i->offset |= bit << 5;
        if (pat[k] == 'i') i->offset |= bit << 10;
    }
    return true;
}

/* loads: dst, address; stores: address, data[, data2]; atomics: [dst,] address, data[, data2] */
static bool decode_ds(Decoder *d, Inst *i, const Line *ln) {
    const char *n = i->op->name;
    bool swizzle = !strcmp(n, "ds_swizzle_b32"), store = strstr(n, "write") != NULL;
    bool dst = i->op->atom ? (i->op->flags & OP_RETURNS) != 0 : !store;
    int at = 0;
    if (!strcmp(n, "ds_nop")) return true;
    if (mod_text(ln, "gds")) return fail(d, "global data share is not implemented");
    i->offset1 = (int32_t)mod_int(ln, "offset1", 0);
    i->offset = (int32_t)mod_int(ln, mod_text(ln, "offset0") ? "offset0" : "offset", 0);
    if (swizzle) i->offset = 0;
    if (swizzle && !decode_swizzle(d, i, mod_text(ln, "offset"))) return false;
    if (dst && !operand(d, &i->d, T_u32, ln->n_ops ? ln->op[at++] : "")) return false;
    for (int k = 0; at < ln->n_ops && k < 3; k++)
        if (!operand(d, &i->s[k], T_u32, ln->op[at++])) return false;
    i->nsrc = (uint8_t)(ln->n_ops - dst);
    return true;
}

typedef bool Decode(Decoder *d, Inst *i, const Line *ln);
static Decode *const decoders[] = {
    [F_VECTOR] = decode_vector, [F_PACKED] = decode_vector, [F_COMPARE] = decode_compare, [F_VX] = decode_vx,
    [F_MFMA] = decode_mfma, [F_SCALAR] = decode_scalar, [F_SCALAR_COMPARE] = decode_scalar, [F_SOPK] = decode_sopk,
    [F_BRANCH] = decode_branch, [F_SX] = decode_sx, [F_SMEM] = decode_smem, [F_GLOBAL] = decode_flat,
    [F_FLAT] = decode_flat, [F_SCRATCH] = decode_flat, [F_BUFFER] = decode_buffer, [F_DS] = decode_ds,
};

/* The row of a mnemonic, which may carry its encoding as a suffix. */
static const Op *find_row(const char *mnemonic) {
    static const char *const suffixes[] = {"_e32", "_e64", "_sdwa", "_dpp"};
    char name[64];
    snprintf(name, sizeof name, "%s", mnemonic);
    size_t n = strlen(name);
    for (size_t k = 0; k < LEN(suffixes); k++) {
        size_t m = strlen(suffixes[k]);
        if (n > m && !strcmp(name + n - m, suffixes[k])) {
            name[n - m] = 0;
            break;
        }
    }
    return isa_find(name);
}

void decode_inst(Decoder *d, Inst *i, const char *text) {
    Line ln;
    split(&ln, text);
    d->why[0] = 0;
    i->text = arena_strdup(d->arena, text + strspn(text, " \t"));
    i->op = find_row(ln.mnemonic);
    if (i->op) i->run = run_best(i->op->run), i->count = i->op->count;
    bool decoded = i->op && decoders[i->op->family](d, i, &ln);
    if (decoded && inst_fits(i)) return;
    const char *why = decoded ? "an operand is of the wrong kind or size" : i->op ? d->why : "unknown mnemonic";
    i->text = arena_printf(d->arena, "%s: %s", i->text, why);
    i->run = run_bad;
}
