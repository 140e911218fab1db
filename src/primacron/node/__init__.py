"""One node of the cluster: the sessions of this process, and their registration with the others."""

from primacron.node.hooks import Application
from primacron.node.node import Node
from primacron.node.registrar import Admission, Applicant

__all__ = ["Admission", "Applicant", "Application", "Node"]
