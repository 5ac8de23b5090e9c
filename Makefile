# The table of contents: one line each, no logic. `cargo xtask --help` has the same verbs with their options.
.PHONY: setup build demo test slow fmt lint gen bench bench-metal nano dist

setup: ; cargo xtask setup
build: ; cargo xtask build
demo:  ; cargo xtask demo
test:  ; cargo xtask test
slow:  ; cargo xtask slow
fmt:   ; cargo xtask fmt
lint:  ; cargo xtask lint
gen:   ; cargo xtask gen
bench: ; cargo xtask bench
bench-metal: ; cargo xtask bench-metal $(MODEL)
nano:  ; daemon/nano/build.sh
dist:  ; cargo xtask dist
