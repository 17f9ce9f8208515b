"""What runs a stage: the stage runner, DVC, remotes, tracking, progress and local servers.

Imports `base` and `contract`. Nothing here may decide what a stage's output is, so no stage
in `dvc.yaml` depends on this room.
"""
