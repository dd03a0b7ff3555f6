"""Builds the one extension module, pinloop._core. Everything else about the package is in pyproject.toml.

Environment variables choose the kind of build:

PINLOOP_BUILD       release (the default), debug (-O0, assertions, Cython lines) or sanitize (ASan and UBSan)
PINLOOP_LIBKQUEUE   1 links libkqueue, which runs the kqueue backend on Linux
"""

import os
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]
# Taken only where the compiler knows them.
OPTIONAL = ["-fno-semantic-interposition"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# Assertions are on where NDEBUG is not defined; _FORTIFY_SOURCE needs an optimizer and hides ASan's reports.
CHECKED = ["-g", "-UNDEBUG", "-U_FORTIFY_SOURCE", "-fno-omit-frame-pointer"]

COMPILE_ARGS = {
    "release": ["-O3"],
    "debug": ["-O0", *CHECKED],
    "sanitize": ["-O1", *CHECKED, *SANITIZERS],
}
LINK_ARGS = {"release": [], "debug": [], "sanitize": SANITIZERS}


def chosen(variable, choices):
    """The value of an environment variable; the first choice when it is unset or empty."""
    value = os.environ.get(variable) or choices[0]
    if value not in choices:
        raise SystemExit(f"{variable} must be one of {', '.join(choices)}; it is {value!r}")
    return value


KIND = chosen("PINLOOP_BUILD", list(COMPILE_ARGS))
LIBKQUEUE = chosen("PINLOOP_LIBKQUEUE", ["0", "1"]) == "1"


class BuildCore(build_ext):
    """Translates Cython to C only when the module is really built (an sdist needs no C), into build/."""

    def build_extension(self, ext):
        from Cython.Build import cythonize

        if self.changed_kind():
            self.force = True

        generated = cythonize(
            [ext],
            include_path=["cext"],
            build_dir=os.path.join(self.build_temp, "cython"),
            emit_linenums=KIND == "debug",
            force=self.force,
        )[0]
        ext.sources = generated.sources
        ext.extra_compile_args += [flag for flag in OPTIONAL if self.accepts(flag)]
        super().build_extension(ext)

    def changed_kind(self):
        """Whether the module in the build folder may be of another kind; notes the kind built now."""
        note = Path(self.build_temp, "kind")
        before = note.read_text() if note.exists() else None
        now = f"{KIND} libkqueue={LIBKQUEUE}"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(now)
        return before != now

    def accepts(self, flag):
        """Whether the compiler takes this flag without a word."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "empty.c")
            source.write_text("int pinloop_probe;\n")
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=["-Werror", flag])
            except Exception:  # each compiler class has its own CompileError
                return False
        return True


def parts():
    """Every file that the module is made of: a change in any of them builds it again."""
    return sorted(str(path) for path in Path("cext").rglob("*") if path.suffix in {".pxd", ".pxi", ".h"})


setup(
    ext_modules=[
        Extension(
            "pinloop._core",
            sources=["cext/pinloop/_core.pyx"],
            depends=parts(),
            include_dirs=["cext/pinloop", *(["/usr/include/kqueue"] if LIBKQUEUE else [])],
            define_macros=[("PINLOOP_LIBKQUEUE", "1")] if LIBKQUEUE else [],
            libraries=["kqueue"] if LIBKQUEUE else [],
            extra_compile_args=[*COMPILE_ARGS[KIND], "-fvisibility=hidden", *WARNINGS],
            extra_link_args=LINK_ARGS[KIND],
        )
    ],
    cmdclass={"build_ext": BuildCore},
)
