"""Distributed methods: each is a worker half and a server half that meet in messages."""

from mlmc_ray.methods.asynchronous.adaptive_shadowheart import AdaptiveShadowheart
from mlmc_ray.methods.asynchronous.async_sgd import AsyncSGD
from mlmc_ray.methods.asynchronous.rennala import RennalaSGD
from mlmc_ray.methods.asynchronous.shadowheart import Shadowheart
from mlmc_ray.methods.base import SERVER, Method, Oracle, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.compressed_sgd import CompressedSGD, DataParallelSGD
from mlmc_ray.methods.downlinks.docofl import DoCoFL
from mlmc_ray.methods.downlinks.ef21_bc import EF21BC
from mlmc_ray.methods.downlinks.ef21_p import EF21P, EF21PDIANA
from mlmc_ray.methods.downlinks.marina_p import M3, MarinaP
from mlmc_ray.methods.error_feedback.coco_ef import CocoEF
from mlmc_ray.methods.error_feedback.ef import ErrorFeedback
from mlmc_ray.methods.error_feedback.ef21 import EF21SGDM
from mlmc_ray.methods.error_feedback.power_sgd import PowerSGDMethod
from mlmc_ray.methods.learned import LearnedCompression
from mlmc_ray.methods.local.local_sgd import LocalSGD
from mlmc_ray.methods.local.scaffnew import CompressedScaffnew, Scaffnew
from mlmc_ray.methods.local.tamuna import TAMUNA
from mlmc_ray.methods.partial_participation import PartialParticipation
from mlmc_ray.methods.running_estimates.dasha import DASHA
from mlmc_ray.methods.running_estimates.dasha_pp import DASHAPP
from mlmc_ray.methods.running_estimates.dasha_sync_mvr import DASHASyncMVR
from mlmc_ray.methods.running_estimates.dasha_variants import DASHAMVR, DASHAPage
from mlmc_ray.methods.running_estimates.marina import MARINA
from mlmc_ray.methods.running_estimates.marina_variants import PPMARINA, VRMARINA
from mlmc_ray.methods.shifts.adiana import ADIANA
from mlmc_ray.methods.shifts.diana import DIANA, RandDIANA
from mlmc_ray.methods.shifts.ef_bv import EFBV
from mlmc_ray.methods.shifts.svrg import SVRG

__all__ = [
    "ADIANA",
    "DASHA",
    "DASHAMVR",
    "DASHAPP",
    "DIANA",
    "EF21BC",
    "EF21P",
    "EF21PDIANA",
    "EF21SGDM",
    "EFBV",
    "M3",
    "MARINA",
    "PPMARINA",
    "SERVER",
    "SVRG",
    "TAMUNA",
    "VRMARINA",
    "AdaptiveShadowheart",
    "AsyncSGD",
    "CocoEF",
    "CompressedSGD",
    "CompressedScaffnew",
    "DASHAPage",
    "DASHASyncMVR",
    "DataParallelSGD",
    "DoCoFL",
    "ErrorFeedback",
    "LearnedCompression",
    "LocalSGD",
    "MarinaP",
    "Method",
    "Oracle",
    "PartialParticipation",
    "PowerSGDMethod",
    "Progress",
    "RandDIANA",
    "RennalaSGD",
    "Scaffnew",
    "ServerHalf",
    "Shadowheart",
    "WorkerHalf",
]
