"""The examples of docs/*.md, run. A page with blocks ```console is taken: "$ command" lines, each with its output.

A block ```lua that begins with "-- NAME.lua" is written to that file first; one that no command names is compiled and must apply
without a warning. Commands run in a folder with links to the repository's. REBASE=1 writes their output into the page."""
import os, re, subprocess, sys, tempfile

ROOT = os.getcwd()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def report(name, why=""):
    print(f"FAIL {name}: {' / '.join(why.split(chr(10)))}" if why else f"ok {name}", flush=True)


def shell(command, folder):
    done = subprocess.run(["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.stdout


def console(text, folder):
    """The block with the output that its commands have now."""
    out = ""
    for line in text.splitlines():
        if not line.startswith("$ "):
            continue
        said = shell(line[2:], folder)
        out += line + "\n" + said + ("\n" if said and not said.endswith("\n") else "")
    return out


def differs(want, got):
    w, g = want.splitlines(), got.splitlines()
    for i in range(max(len(w), len(g))):
        a, b = (w[i] if i < len(w) else "(nothing)"), (g[i] if i < len(g) else "(nothing)")
        if a != b:
            return f"the page says {a}, it is {b} (REBASE=1 writes it)"
    return ""


def lua(text, folder, page):
    name = re.match(r"-- (\w+\.lua)", text)
    if not name:
        return report(f"{page}/lua", f"a block without a name: {text[:60]}")
    with open(os.path.join(folder, name[1]), "w") as f:
        f.write(text)
    return name[1]


def run(path):
    page = os.path.basename(path)[:-3]
    text = open(path).read()
    blocks = list(BLOCK.finditer(text))
    if not any(b[1] == "console" for b in blocks):
        return
    commands = "".join(b[2] for b in blocks if b[1] == "console")
    new, at = "", 0
    with tempfile.TemporaryDirectory() as folder:
        for d in ("out", "graphs", "lua", "templates", "models"):
            os.symlink(os.path.join(ROOT, d), os.path.join(folder, d))
        for b in blocks:
            got = b[2]
            if b[1] == "lua":
                name = lua(b[2], folder, page)
                if name and name not in commands:
                    report(f"{page}/{name}", shell(f"out/gptoss-compile graphs/tiny.lua --arch host --fusions {name}", folder))
            if b[1] == "console":
                got = console(b[2], folder)
                first = b[2].split("\n")[0]
                line = text.count("\n", 0, b.start()) + 2
                report(f"{page}:{line}", differs(b[2], got) if "REBASE" not in os.environ else "")
                if not first.startswith("$ "):
                    report(f"{page}:{line}", "no command")
            new += text[at : b.start(2)] + got
            at = b.end(2)
    if "REBASE" in os.environ:
        open(path, "w").write(new + text[at:])


def sections():
    """What errors point to is there."""
    text = "".join(open(os.path.join("compiler", f)).read() for f in sorted(os.listdir("compiler")) if f.endswith(".c"))
    headings = re.findall(r"^## (.*)$", open("docs/fusions.md").read(), re.M)
    named = set(re.findall(r'SEE\("([^"]+)"\)', text) + re.findall(r'docs/fusions\.md, (\w[\w ]*)', text))
    lost = [n for n in named if not any(h.startswith(n) for h in headings)]
    report("fusions/sections", "no section " + ", ".join(lost) if lost else "" if len(named) > 4 else "errors point nowhere")


sections()
for page in sorted(os.listdir("docs")):
    if page.endswith(".md"):
        run(os.path.join("docs", page))
