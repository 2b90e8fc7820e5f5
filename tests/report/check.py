"""Facts about the page of --report html.
  check.py data PAGE REPORT EXPLAIN     its data against what --report json and --explain print
  check.py lab PAGE JSON                that of gptoss-lab's, against what --format json prints
  check.py instrument PAGE TO SCRIPT    a copy that notes the page's errors and then runs the script
  check.py dom DOM fact=value…          of the DOM that a browser made of it
Prints what is wrong."""
import html, json, re, sys


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def data(page, report, explain):
    d, r, x = data_of(open(page).read()), json.load(open(report)), json.load(open(explain))
    for key in r:
        if key != "jit_seconds" and d[key] != r[key]:
            print(f"{key} differs from --report json")
    if d["explain"] != x["explain"]:
        print("explain differs from --explain")
    for g in d["graphs"]:
        made = {o[0] for n in g["after"]["nodes"] for o in n["out"]} | {i[0] for i in g["after"]["inputs"]}
        for n in g["after"]["nodes"]:
            if [v for v in n["in"] if v and v not in made]:
                print(f"{n['name']} reads what nothing gives")
            if len(n.get("cost", [])) != (len(d["work"]) if g["name"] != "prepare" else 0):
                print(f"{n['name']} has no cost for each step")
            if any(sum(reads) != cost[0] for reads, cost in zip(n.get("reads", []), n.get("cost", [])) if abs(sum(reads) - cost[0]) > len(reads)):
                print(f"{n['name']}: its inputs' bytes are not its reads")
        ran = [k for n in g["after"]["nodes"] for k, _, _ in n["launches"]]
        if len(ran) < d["launches"].get(g["name"], 0):
            print(f"{g['name']}: {len(ran)} launches, {d['launches'][g['name']]} in the report")
        before = {o[0] for n in g.get("before", {"nodes": []})["nodes"] for o in n["out"]}
        inside = {o[0] for n in g["after"]["nodes"] for b in n.get("body", {"nodes": [n]})["nodes"] for o in b["out"]}
        if before - inside:
            print(f"{g['name']}: {sorted(before - inside)[:3]} got lost")
    for m in d["sources"]["modules"]:
        if d["sources"]["prelude"] in m["text"] or "identity" not in m["text"]:
            print(f"{m['name']}: not its own text")


def lab(page, wanted):
    d, w = data_of(open(page).read()), json.load(open(wanted))
    for key in ("rules", "graphs", "sources", "plans"):
        if d["lab"][key] != w[key]:
            print(f"{key} differs from --format json")
    for g in d["graphs"]:
        for side, kernels in (("before", d["before"]["kernels"]), ("after", d["kernels"])):
            for n in g.get(side, {"nodes": []})["nodes"]:
                if any(k >= len(kernels) for k, _, _ in n["launches"]):
                    print(f"{side} {n['name']}: a kernel that the plan has not")
    named = {m["name"] for m in d["sources"]["modules"]}, {m["name"] for m in d["before"]["sources"]["modules"]}
    for s in w["sources"]:
        if (s["state"] != "removed") != (s["name"] in named[0]) or (s["state"] != "added") != (s["name"] in named[1]):
            print(f"{s['name']}: {s['state']}, but the page has it on {[s['name'] in n for n in named]}")


def instrument(page, to, script):
    text = open(page).read()
    note = "addEventListener('error', (e) => (document.documentElement.dataset.error = e.message));"
    text = text.replace("<title>", f"<script>{note}</script>\n<title>", 1).replace("</html>", f"<script>{{ {script} }}</script>\n</html>")
    open(to, "w").write(text)


def part(dom, start, end):
    return dom[dom.index(start) : dom.index(end)]


def dom(path, *wanted):
    text = open(path).read()
    if '<script type="application/json"' not in text:
        return print("the browser gave no page")
    text = text[: text.index("<script type=\"application/json\"")]
    before, after, opened = part(text, 'id="before"', 'id="after-count"'), part(text, 'id="after"', 'id="details"'), part(text, 'id="details"', 'id="roof-title"')
    plain = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", opened)))
    nodes = lambda s: re.findall(r'<g class="node[^>]*>', s)
    name = lambda tag: re.search(r'data-name="([^"]*)"', tag)[1]
    total = re.search(r'id="before-count"[^>]*>([\d,]+) nodes', text)
    root = re.search(r"<html[^>]*>", text)[0]
    attr = lambda a: (re.search(rf'data-{a}="([^"]*)"', root) or ["", ""])[1]
    facts = {
        "error": attr("error"), "at": attr("at"),
        "before.total": total and total[1].replace(",", ""),
        "before.drawn": len(nodes(before)), "after.drawn": len(nodes(after)), "body": len(nodes(part(opened, 'id="body"', "</pre>"))) if 'id="body"' in opened else 0,
        "members": sum(" member" in n for n in nodes(before)), "dots": len(re.findall(r'<circle class="dot"', text)),
        "open": ",".join(name(n) for n in nodes(before + after) if " open" in n),
        "partner": ",".join(name(n) for n in nodes(after) if " member" in n),
        "graph": next((n for n in ("prepare", "logits", "sample", "step") if f'aria-label="after" data-graph="{n}"' in text), ""),
        "focus": attr("focus"), "problems": html.unescape(attr("problems")), "dark": attr("dark"), "differs": sum(" differs" in n for n in nodes(before + after)), "diff": len(re.findall(r"<(?:ins|del)>", text)),
    }
    for w in wanted:
        key, value = w.split("=", 1)
        if key == "details":
            if value not in plain:
                print(f"the details do not say {value}: {plain[:200]}")
        elif key == "label":
            if value not in html.unescape(text):
                print(f"no {value}")
        elif str(facts[key]) != value:
            print(f"{key} is {facts[key]}, not {value}")
    for n in nodes(before + after):
        if 'aria-label="' not in n or 'role="button"' not in n:
            return print(f"a node without a name for a screen reader: {n}")


{"data": data, "lab": lab, "instrument": instrument, "dom": dom}[sys.argv[1]](*sys.argv[2:])
