"""One node of the cluster: this process' sessions, introduced to what processes share."""

from primacron.node.admission import Admission, Applicant
from primacron.node.node import Application, Node

__all__ = ["Admission", "Applicant", "Application", "Node"]
