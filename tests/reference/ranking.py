"""Rankings by sorting, one query at a time, as the protocols' own words say; slow and plain."""

from __future__ import annotations

import numpy as np


def metrics(scores, query, gallery, *, clothes="any", cameras=()):
    """(mAP, mINP, CMC list, queries counted) of scores (Q, G); wrong images lead in ties."""
    precisions, penalties, firsts = [], [], []
    for q in range(len(scores)):
        if cameras and query.camids[q] not in cameras:
            continue
        listed = []
        for g in range(scores.shape[1]):
            same = gallery.pids[g] == query.pids[q] and query.pids[q] >= 0
            if cameras and gallery.camids[g] not in cameras:
                continue
            if same and gallery.camids[g] == query.camids[q] >= 0:  # below 0: unknown
                continue
            alike = gallery.clothes[g] == query.clothes[q]
            if same and ((clothes == "changed" and alike) or (clothes == "same" and not alike)):
                continue
            listed.append((-scores[q, g], same))
        order = [same for _, same in sorted(listed)]  # False sorts before True
        if not any(order):
            continue
        hits = [place for place, same in enumerate(order, 1) if same]
        precisions.append(np.mean([i / place for i, place in enumerate(hits, 1)]))
        penalties.append(len(hits) / hits[-1])
        firsts.append(hits[0])
    cmc = [np.mean(np.array(firsts) <= k) for k in range(1, 11)]
    return np.mean(precisions), np.mean(penalties), cmc, len(firsts)


def metrics_by_argsort(scores, query, gallery):
    """(mAP, rank-1) of scores (Q, G) by sorting everything at once, the common formulation."""
    order = np.argsort(-scores, axis=1, kind="stable")
    matches = gallery.pids[order] == query.pids[:, None]
    junk = matches & (gallery.camids[order] == query.camids[:, None])
    precisions, firsts = [], []
    for q in range(len(scores)):
        hits = matches[q][~junk[q]]
        if not hits.any():
            continue
        ranks = np.flatnonzero(hits) + 1
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        firsts.append(ranks[0] == 1)
    return float(np.mean(precisions)), float(np.mean(firsts))
