"""
Builds the compiled modules, if there is a C compiler: those with a .pxd file, which declares their types.

Without one the same files run as plain Python; ``primacron.compiled`` tells which.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = [path.with_suffix(".py") for path in sorted(Path("src").rglob("*.pxd"))]
#: Overrides the interpreter's own flags and CFLAGS: with -O2 an echo of 64 kB costs half as much again.
FLAGS = ["-O3", "-g0"]


class BuildAllOrNone(build_ext):
    """Builds all modules, or none if the C compiler or Python's headers are missing: they use each other's types."""

    def build_extensions(self) -> None:
        """Build all extensions, and remove them again if one is missing."""
        super().build_extensions()
        built = [Path(self.get_ext_fullpath(each.name)) for each in self.extensions]
        if not all(path.exists() for path in built):
            for path in built:
                path.unlink(missing_ok=True)
            self.warn("primacron: no C compiler, or no Python.h: installed as plain Python, and slower")


extensions = cythonize(
    [Extension(".".join(path.with_suffix("").parts[1:]), [str(path)], extra_compile_args=FLAGS) for path in SOURCES],
    language_level=3,
    compiler_directives={"annotation_typing": False},  # the .pxd files alone declare types
    build_dir="build/cython",
)
for extension in extensions:
    extension.optional = True  # set here because cythonize drops it

setup(
    ext_modules=extensions,
    cmdclass={"build_ext": BuildAllOrNone},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
