"""What a policy would earn, told from what another one showed. Arrays in, estimates with intervals out.

`weights`: importance weights, and when to refuse; `choices` and `slates`: the estimators; `reward_model`: what the direct and
doubly robust ones need; `tuning`: their thresholds; `intervals`. Not here: files (`benchmark/off_policy`).
"""
