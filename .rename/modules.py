"""Renames modules of loadtests and rewrites every mention: imports, dotted names, paths in docs."""
import re, subprocess, sys, pathlib
ROOT = pathlib.Path(sys.argv[1]); MAP = {}
for line in pathlib.Path(sys.argv[2]).read_text().splitlines():
    line = line.split("#")[0].strip()
    if not line: continue
    old, new = line.split()
    MAP[old] = new   # dotted from loadtests: harness.conductor harness.run
def sh(*a): subprocess.run(a, cwd=ROOT, check=True)
files = [ROOT / f for f in subprocess.run(["git","ls-files"],cwd=ROOT,capture_output=True,text=True).stdout.split("\n") if f and f.rsplit(".",1)[-1] in ("py","md","toml","run","yml","c","txt","js","html","css") or f in ("Makefile",)]
for old, new in MAP.items():
    a = ROOT/"loadtests"/(old.replace(".","/")+".py"); b = ROOT/"loadtests"/(new.replace(".","/")+".py")
    if not a.exists(): sys.exit(f"no {a}")
    if b.exists() and new not in MAP: sys.exit(f"there is {b}")
# two steps so that swaps work
for i,(old,new) in enumerate(MAP.items()):
    a = "loadtests/"+old.replace(".","/")+".py"; sh("git","mv",a,a+".tmp")
for old,new in MAP.items():
    b = ROOT/"loadtests"/(new.replace(".","/")+".py"); b.parent.mkdir(parents=True, exist_ok=True)
    sh("git","mv","loadtests/"+old.replace(".","/")+".py.tmp", str(b.relative_to(ROOT)))
NEWPATH = {("loadtests/"+o.replace(".","/")+".py"):("loadtests/"+n.replace(".","/")+".py") for o,n in MAP.items()}
dotted = re.compile(r"\bloadtests\.((?:[a-z_]+\.)*[a-z_]+)")
def dot(m):
    parts = m[1].split(".")
    for k in range(len(parts),1,-1):
        key = ".".join(parts[:k])
        if key in MAP: return "loadtests."+".".join([MAP[key],*parts[k:]])
    return m[0]
frm = re.compile(r"^(\s*)from loadtests\.([a-z_.]+) import (\([^)]*\)|[^\n]*)$", re.M)
for f in files:
    rel = str(f.relative_to(ROOT)); f = ROOT/NEWPATH.get(rel, rel)
    try: t = f.read_text()
    except Exception: continue
    o = t
    used = {}   # local alias renames in this file
    def imp(m):
        ind, pkg, what = m[1], m[2], m[3]
        names = [n.strip() for n in what.strip("()").replace("\n"," ").split(",") if n.strip() and not n.strip().startswith("#")]
        hit = [n for n in names if f"{pkg}.{n.split(' as ')[0]}" in MAP]
        if not hit: return m[0]
        lines, stay = [], []
        for n in names:
            base, _, alias = n.partition(" as ")
            key = f"{pkg}.{base}"
            if key in MAP:
                np, _, nb = MAP[key].rpartition(".")
                if alias: lines.append(f"{ind}from loadtests.{np} import {nb} as {alias}")
                else:
                    lines.append(f"{ind}from loadtests.{np} import {nb}"); used[base]=nb
            else: stay.append(n)
        if stay: lines.insert(0, f"{ind}from loadtests.{pkg} import {', '.join(stay)}")
        return "\n".join(lines)
    t = frm.sub(imp, t)
    for a,b in used.items():
        if a!=b: t = re.sub(rf"(?<![\w.\"'])\b{a}\b(?=\.)", b, t); print("alias", rel, a, b)
    t = dotted.sub(dot, t)
    for a,b in MAP.items():
        pa, pb = a.replace(".","/"), b.replace(".","/")
        t = re.sub(rf"(?<![\w/]){re.escape(pa)}(?=\.py\b|`)", pb, t)
        t = t.replace(f"loadtests/{pa}.py", f"loadtests/{pb}.py")
        t = re.sub(rf"`{re.escape(a)}(?=[`.])", f"`{b}", t)
        pkg = a.rsplit(".",1)[0]
        if rel.startswith(f"loadtests/{pkg.replace('.','/')}/") or rel.startswith(f"tests/{pkg}/"):
            last, nl = a.rsplit(".",1)[1], b.rsplit(".",1)[1]
            t = re.sub(rf"(?<=`){last}(?=`|\.[a-z_]+`)", nl, t)
    if t != o: f.write_text(t)
