//! Dissimilarities and correlations of profiles, and scores of predicted against measured effects.

mod aitchison;
mod areas;
mod bray_curtis;
mod centroid_accuracy;
mod cosine;
mod de_auprc;
mod de_auroc;
mod de_direction;
mod e_distance;
mod euclidean;
#[cfg(test)]
mod fixtures;
mod hellinger;
mod jensen_shannon;
mod kendall;
mod keystoneness;
mod lfc_nmae;
mod lfc_spearman;
mod mae;
mod matched_auroc;
mod mmd;
mod mse;
mod ndcg;
mod nearest;
mod overlap;
mod panel;
mod pds;
mod pearson;
mod pearson_delta_pert;
mod populations;
mod precision;
mod r2;
mod r2w_delta;
mod ranking;
mod rbo;
mod rmse;
mod spearman;
mod sum;
mod sym_kl;
mod top;
mod top_auprc;
mod top_precision;
mod weights;
mod wmse;

use aitchison::Aitchison;
use bray_curtis::BrayCurtis;
use centroid_accuracy::CentroidAccuracy;
use cosine::Cosine;
use de_auprc::DeAuprc;
use de_auroc::DeAuroc;
use de_direction::DeDirection;
use e_distance::EDistance;
use euclidean::Euclidean;
use hellinger::Hellinger;
use jensen_shannon::JensenShannon;
use kendall::Kendall;
use keystoneness::Keystoneness;
use lacuna_sdk::prelude::*;
use lfc_nmae::LfcNmae;
use lfc_spearman::LfcSpearman;
use mae::Mae;
use matched_auroc::MatchedAuroc;
use mmd::Mmd;
use mse::Mse;
use ndcg::Ndcg;
use overlap::Overlap;
use pds::Pds;
use pearson::Pearson;
use pearson_delta_pert::PearsonDeltaPert;
use precision::Precision;
use r2::R2;
use r2w_delta::R2wDelta;
use rbo::Rbo;
use rmse::Rmse;
use spearman::Spearman;
use sym_kl::SymKl;
use top_auprc::TopAuprc;
use top_precision::TopPrecision;
use wmse::Wmse;

plugin! {
    name: "metrics",
    metrics: [
        BrayCurtis, Keystoneness, Euclidean, Hellinger, JensenShannon, SymKl, Aitchison, Mae, Mse, Rmse, R2, Cosine, Spearman, Pearson, PearsonDeltaPert, Pds, CentroidAccuracy,
        DeDirection, DeAuroc, DeAuprc, MatchedAuroc, Overlap, Precision, LfcSpearman, LfcNmae, Wmse, R2wDelta,
        Kendall, Ndcg, Rbo, TopPrecision, TopAuprc, EDistance, Mmd
    ]
}
