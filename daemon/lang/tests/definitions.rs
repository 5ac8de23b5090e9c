//! What has a name outside of functions is found in every language with a grammar.

use std::path::Path;

use lang::{Grammar, detect};

#[track_caller]
fn check(file: &str, text: &str, expected: &[&str]) {
    let path = Path::new(file);
    let syntax = Grammar::new(detect(path).unwrap(), path).parse(text).unwrap();
    let found = syntax.definitions();
    let names: Vec<&str> = found.iter().map(|found| &text[found.name.clone()]).collect();
    assert_eq!(names, expected);
    assert!(found.iter().all(|it| it.whole.start <= it.name.start && it.name.end <= it.whole.end));
}

#[test]
fn python() {
    let text = "import os\nclass A:\n    x = 1\n    @p\n    def f(self):\n        def inner(): pass\nasync def g(): pass\n";
    check("a.py", text, &["A", "f", "g"]);
}

#[test]
fn rust() {
    let text = "use a::b;\nconst N: u8 = 1;\npub struct S<T>(T);\nimpl<T> Clone for S<T> { fn clone(&self) -> Self { fn x() {} } }\ntrait T { fn t(&self); }\ntype U = u8;\nmacro_rules! m { () => {} }\nmod n { pub enum E { A } }\n";
    check("a.rs", text, &["N", "S", "S", "clone", "T", "t", "U", "m", "n", "E"]);
}

#[test]
fn typescript() {
    let text = "import x from './x';\nexport const f = (a: number) => { const inner = 1; };\nexport class C { m() {} }\ninterface I { a: string }\ntype T = string;\nenum E { A }\nexport function g() {}\n";
    check("a.ts", text, &["f", "C", "m", "I", "T", "E", "g"]);
}

#[test]
fn go() {
    let text = "package a\nconst K = 1\nvar V int\ntype S struct { a int }\nfunc (s *S) M() { x := 1; _ = x }\nfunc F() {}\n";
    check("a.go", text, &["K", "V", "S", "M", "F"]);
}

#[test]
fn c_and_cpp() {
    let text = "#include <a.h>\n#define LIMIT 3\nstruct point { int x; };\ntypedef struct point point_t;\nstatic int *find(struct point *at) { struct point p; return 0; }\nenum color { RED };\n";
    check("a.c", text, &["LIMIT", "point", "point_t", "find", "color"]);
    let text = "namespace ns {\nclass C { void m() {} };\nusing U = int;\n}\nvoid ns::C::m() {}\n";
    check("a.cpp", text, &["ns", "C", "m", "U", "m"]);
}

#[test]
fn nothing_is_found_in_junk() {
    for junk in ["", "\0\0\0", "}}}}((((", "def", "class\n\n"] {
        let _ = Grammar::new(detect(Path::new("a.py")).unwrap(), Path::new("a.py"))
            .parse(junk)
            .unwrap()
            .definitions();
    }
}
