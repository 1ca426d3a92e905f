"""Renames classes: in the module that defines one, and in every file that imports it from there."""
import ast, io, pathlib, re, subprocess, sys, tokenize
ROOT = pathlib.Path(sys.argv[1])
MAP = [line.split() for line in pathlib.Path(sys.argv[2]).read_text().splitlines() if line.strip()]
files = [ROOT/f for f in subprocess.run(["git","ls-files","*.py"],cwd=ROOT,capture_output=True,text=True).stdout.split()]
by = {}
for mod, old, new in MAP: by.setdefault("loadtests."+mod, {})[old] = new
def modname(p):
    rel = p.relative_to(ROOT).with_suffix("")
    return ".".join(rel.parts)
for p in files:
    t = p.read_text()
    if not any(old in t for _, old, _ in MAP): continue
    tree = ast.parse(t)
    me = modname(p)
    names, mods, other = {}, {}, set()
    if me in by:
        defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)} | {t_.id for n in tree.body if isinstance(n,(ast.Assign,ast.AnnAssign)) for t_ in (n.targets if isinstance(n,ast.Assign) else [n.target]) if isinstance(t_, ast.Name)}
        for old,new in by[me].items():
            if old not in defined: print("NOT DEFINED", me, old)
            names[old]=new
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.module:
            for a in n.names:
                full = n.module
                if full in by and a.name in by[full]:
                    if a.asname is None: names[a.name]=by[full][a.name]
                    else: other.add((full,a.name))
                elif f"{full}.{a.name}" in by: mods[a.asname or a.name]=by[f"{full}.{a.name}"]
                elif a.asname is None and a.name in names: print("AMBIGUOUS", p, a.name)
    if not names and not mods and not other: continue
    lines = t.splitlines(keepends=True)
    toks = list(tokenize.generate_tokens(io.StringIO(t).readline))
    edits=[]
    for i,k in enumerate(toks):
        if k.type!=tokenize.NAME: continue
        prev = toks[i-1].string if i else ""
        nxt = toks[i+1].string if i+1<len(toks) else ""
        if prev=="." and i>=2 and toks[i-2].string in mods and k.string in mods[toks[i-2].string]:
            edits.append((k, mods[toks[i-2].string][k.string]))
        elif k.string in names and prev!=".":
            if nxt=="=" and prev in ("(",","): continue  # keyword argument
            edits.append((k, names[k.string]))
    # from x import Old as Y
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.module in by:
            for a in n.names:
                if a.asname and a.name in by[n.module]:
                    for k in toks:
                        if k.type==tokenize.NAME and k.string==a.name and n.lineno<=k.start[0]<=n.end_lineno: edits.append((k,by[n.module][a.name]))
    for k,new in sorted(set((k.start,k.end,new) for k,new in edits), reverse=True) if False else sorted({(k.start,k.end,n) for k,n in edits}, reverse=True) and [] : pass
    for (r,c),(r2,c2),new in sorted({(k.start,k.end,n) for k,n in edits}, reverse=True):
        l=lines[r-1]; lines[r-1]=l[:c]+new+l[c2:]
    out="".join(lines)
    for old,new in names.items():   # in docstrings and quoted annotations, marked as code
        out = re.sub(rf"(?<=`){old}(?=`)", new, out)
    p.write_text(out)
