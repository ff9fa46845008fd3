# Targets of the compiled core: its stack budget, and the sanitizers.

.PHONY: stack asan

GCC ?= gcc

stack: $(VENV)/.built ## the deepest C stack of every operation, and whether it stays in its budget
	$(BIN)/python tools/stack_budget.py --cc "$(GCC)" $(ARGS)

asan: $(VENV)/.built ## the core and the mount under AddressSanitizer and UBSan, short tests; ARGS="..." for pytest
	PATH="$(abspath $(BIN)):$$PATH" CC="$(GCC)" sh tools/asan.sh $(ARGS)
