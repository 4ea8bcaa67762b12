"""Makes the outputs of notebooks anew: `python notebooks/execute.py [NOTEBOOK ...]`.

`jupyter execute --inplace` would leave the files that a notebook writes in this folder,
and the time of day and the version of Python in the notebook.
"""

import pathlib
import sys
import tempfile
import time

import nbformat
import traitlets
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent


class ThisPython(AsyncKernelManager):
    """Starts kernels of the running Python, whatever kernels are installed."""

    @traitlets.default("kernel_spec_manager")
    def _without_folders(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def run(notebook: nbformat.NotebookNode, folder: pathlib.Path) -> None:
    """Run all cells in a new kernel of this Python.

    Args:
        notebook: Changed in place: its outputs are those of this run.
        folder: The working directory.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    metadata = notebook.metadata.copy()
    NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=600,
        kernel_manager_class=ThisPython,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata = metadata


def main(paths: list[pathlib.Path]) -> None:
    """Run notebooks, and keep the outputs of those that come through."""
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, pathlib.Path(folder))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                # What libraries say about this machine is for whoever runs this.
                messages = [x for x in cell.outputs if x.get("name") == "stderr"]
                cell.outputs = [x for x in cell.outputs if x not in messages]
                sys.stderr.writelines(x.text for x in messages)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    arguments = [pathlib.Path(name) for name in sys.argv[1:]]
    main(arguments or sorted(FOLDER.glob("*.ipynb")))
