"""
Builds the compiled modules, where there is a C compiler.

Without one the same files run as plain Python: ``primacron.compiled`` tells.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILED = [
    "wheel",
    "protocol.parcels",
    "sessions.hub",
    "sessions.connection",
    "standalone.frames",
    "standalone.stream",
    "standalone.websocket",
]

setup(
    ext_modules=cythonize(
        [
            Extension(f"primacron.{name}", [f"src/primacron/{name.replace('.', '/')}.py"], optional=True)
            for name in COMPILED
        ],
        language_level=3,
        # The types stand in the .pxd files; positions in buffers are checked by the code itself.
        compiler_directives={"annotation_typing": False, "boundscheck": False, "wraparound": False},
        build_dir="build/cython",
    )
)
