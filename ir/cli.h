/* cli.h - a program's command line from one table: parsing, --help, the environment.
 *
 * -n 64, -n64, --steps 64 and --steps=64 are the same; flags may share a dash (-0s); behind "--" everything is a word. Each
 * option is also read from the environment, its long name in capitals behind Cli.env, unless the command line gives it; a flag
 * there is 1, yes, on, true or 0, no, off, false. -h, --help and --version need no row.
 * Add an option: a field of the program's struct and a row of its table. A range or a choice is checked here. */
#ifndef GPTOSS_CLI_H
#define GPTOSS_CLI_H

#include "base.h"

enum { CLI_LIST_MAX = 64, CLI_OPTIONS_MAX = 64 };

typedef enum CliKind {
    CLI_GROUP,  /* a heading: only `help` */
    CLI_FLAG,   /* bool */
    CLI_TEXT,   /* const char * */
    CLI_CHOICE, /* const char *, one of arg's: "fast|strict" */
    CLI_INT,    /* int64_t, least … most (most 0: no end) */
    CLI_REAL,   /* double, least … most (most 0: no end) */
    CLI_SIZE,   /* size_t > 0: 4096, 512K, 16M, 4G */
    CLI_LIST,   /* CliList: may be given again */
} CliKind;

typedef struct CliList CliList;
struct CliList {
    const char *at[CLI_LIST_MAX + 1]; /* NULL behind the last */
    size_t n;
};

typedef struct CliOption CliOption;
struct CliOption {
    char letter; /* 0: none */
    const char *name;
    CliKind kind;
    size_t at; /* offset of the field */
    const char *arg, *help;
    double least, most;
    const char *env; /* the variable, where it is not Cli.env + NAME; "": none */
    unsigned tag;    /* the program's own */
};

typedef struct Cli Cli;
struct Cli {
    const char *program;  /* "gptoss-tok" */
    const char *synopsis; /* behind its name */
    const char *words;    /* what a word that begins with a dash may be meant as: "a prompt"; NULL: nothing */
    const char *about;    /* what it does: whole lines */
    const char *notes;    /* whole lines behind the options; NULL: none */
    const char *examples; /* whole lines, indented by two */
    const char *env;      /* "GPTOSS_TOK_" */
    const char *version;  /* what --version adds to the program's name and version; NULL: nothing */
    bool places;          /* an error that names its own place, "FILE:LINE:COL: error: ", is printed as it is */
    const CliOption *options;
    size_t n;
};

typedef struct CliParsed CliParsed;
struct CliParsed {
    int words;                   /* those that are no options: argv[0 … words - 1] now, a NULL behind them */
    bool done;                   /* --help or --version: printed, nothing else was looked at */
    bool given[CLI_OPTIONS_MAX]; /* which rows the command line named */
};

/* The first thing a main does. Fills the fields of *to that were given. A standard stream that is closed stays so: no file that
 * is opened later takes its place. A write beyond the limit of a file's size fails; it is no signal. */
bool cli_parse(const Cli *c, void *to, int argc, char **argv, CliParsed *parsed, Err *e);

/* Prints a mistake in the arguments and where to read on; returns the exit status for it, 2. */
int cli_usage_error(const Cli *c, const Err *e);

/* The last thing a main does: returns the exit status, success only if ok and all that was printed has reached stdout; else says
 * why not (e). Nothing can be printed after it. */
int cli_end(const Cli *c, bool ok, Err *e);

/* For runs that print for long, right behind printing: flushes; false, with e set, when something printed so far is lost. */
bool cli_stdout(Err *e);

void cli_help(const Cli *c, Text *t);

/* The path of a program of this name beside the one that runs; in the arena. */
const char *cli_sibling(Arena *a, const char *program);
/* The folder that holds lua/, templates/ and compiler/report.html: GPTOSS_HOME, else beside the program or in ../share/gptoss. NULL with e set. */
const char *cli_home(Arena *a, Err *e);

/* Which of names (NULL behind the last) did who wrote `word` mean? NULL: none is near: two slips (a letter too many, too few,
 * another, or two exchanged), one in a short word. */
const char *cli_nearest(const char *word, const char *const *names);
/* Puts "; did you mean NAME?" behind e->msg, if there is one. Returns false. */
bool cli_suggest(Err *e, const char *word, const char *const *names);

#endif
