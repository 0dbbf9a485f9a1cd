"""`endcap evaluate-policy`: a log and a policy, as files, to a result file. The estimators are in `evaluation/off_policy`."""
