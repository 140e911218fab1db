"""
Builds the compiled modules, where there is a C compiler: those with a .pxd file, which gives their types.

Without one the same files run as plain Python: ``primacron.compiled`` tells.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = [path.with_suffix(".py") for path in sorted(Path("src").rglob("*.pxd"))]

setup(
    ext_modules=cythonize(
        [
            Extension(".".join(path.with_suffix("").parts[1:]), [str(path)], optional=True, extra_compile_args=["-g0"])
            for path in SOURCES
        ],
        language_level=3,
        compiler_directives={"annotation_typing": False},  # types stand in the .pxd files alone
        build_dir="build/cython",
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},
)
