"""What the numbers, columns and files of a sweep mean, in words, for the pages of the reference.

A test holds the names to those that the code has.
"""

METRICS = {
    "val/miou": (
        "higher",
        "0 to 1",
        "Mean intersection over union of the evaluator's classes on generated pictures and the label "
        "maps; for "
        "an evaluator itself, on real pictures.",
    ),
    "val/kd_evaluator": (
        "lower",
        "",
        "Unbiased kernel distance in the evaluator's features, from the split's real pictures. It may be a "
        "little below 0. It is not KID.",
    ),
    "val/fd_evaluator": (
        "lower",
        "",
        "Frechet distance in the evaluator's features. It is biased upwards where `biased` says so. It is "
        "not "
        "FID.",
    ),
    "val/psnr": (
        "higher",
        "dB",
        "Peak signal-to-noise ratio of the student's picture and its target; a picture counts 100 dB at "
        "most.",
    ),
    "val/ssim": ("higher", "-1 to 1", "Structural similarity of the student's picture and its target."),
    "val/fid": (
        "lower",
        "",
        "Frechet distance in features of Inception: with the published weights of 2015 alone, of "
        "`--extractor inception=FILE`. Of few pictures it is biased, which `biased` says.",
    ),
    "val/kid": ("lower", "", "Kernel distance in the same features; of few pictures it is not biased."),
    "val/kd_NAME": ("lower", "", "Kernel distance in the features of `--extractor`."),
    "val/fd_NAME": ("lower", "", "Frechet distance in the features of `--extractor`."),
    "val/precision_NAME": (
        "higher",
        "0 to 1",
        "Share of generated pictures that lie among the real ones, in the features of `--extractor`.",
    ),
    "val/recall_NAME": (
        "higher",
        "0 to 1",
        "Share of real pictures that lie among the generated ones, in the features of `--extractor`.",
    ),
    "val/miou_NAME": (
        "higher",
        "0 to 1",
        "Mean intersection over union of the classes that `--segmenter` sees in generated pictures, with the "
        "label maps.",
    ),
    "val/fid_FILE": (
        "lower",
        "0 or more",
        "FID of generated pictures from the statistics in `--real-statistics inception=FILE.npz`, of "
        "pictures that are not here.",
    ),
    "val/fd_NAME_FILE": (
        "lower",
        "0 or more",
        "The same by any other extractor, in its features.",
    ),
    "val/lpips": ("lower", "", "Perceptual distance of generated pictures and targets, by `--lpips FILE`."),
    "val/accuracy": (
        "higher",
        "0 to 1",
        "Of an evaluator without label maps: share of real pictures whose class, or number of quarter "
        "turns, it "
        "predicts.",
    ),
    "val/input_l1": (
        "lower",
        "",
        "Of an evaluator of A|B pictures: mean absolute error of the predicted input, in [-1, 1].",
    ),
    "cost/macs": (
        "lower",
        "MACs",
        "Multiply-accumulates of the generator for one picture, by the convention `macs_convention` "
        "(`true`).",
    ),
    "cost/params": ("lower", "", "Parameters of the generator."),
    "cost/memory_gb": (
        "lower",
        "GiB",
        "Predicted peak memory on the GPU of one worker that trains the student. It is in the tables only "
        "where "
        "an objective or a window names it.",
    ),
    "cost/latency_ms_p50": (
        "lower",
        "ms",
        "Measured by `raydistill latency`: median of the repeats.",
    ),
    "cost/latency_ms_p95": ("lower", "ms", "The same, 95th percentile."),
    "train/l1": ("lower", "", "L1 distance to the target, or to the teacher's picture, in [-1, 1]."),
    "train/dissimilarity": (
        "lower",
        "0 to 2",
        "1 - SSIM of student and teacher; OMGD: summed over teachers.",
    ),
    "train/mse": ("lower", "", "Base plain: mean squared difference to the teacher's picture."),
    "train/robust": (
        "lower",
        "",
        "Base plain: mean sqrt(d^2 + 0.001^2) of the differences d to the teacher.",
    ),
    "train/multiscale": (
        "lower",
        "",
        "Base plain: L1 distance to the teacher's picture, over it and two halvings of both.",
    ),
    "train/activations": (
        "lower",
        "",
        "Base gan: mean squared differences of adapted activations to the teacher's, summed over taps.",
    ),
    "train/style": (
        "lower",
        "",
        "OMGD: L1 distance of Gram matrices of features, summed over taps and teachers.",
    ),
    "train/content": ("lower", "", "OMGD: L1 distance of the features of one tap, summed over teachers."),
    "train/total_variation": (
        "",
        "",
        "OMGD: total variation of the student's picture, a sum over pixels and channels; the mean over "
        "pictures.",
    ),
    "train/channels": (
        "lower",
        "",
        "OMGD: mean squared differences of spatial means of adapted activations to the wide teacher's, "
        "summed over taps.",
    ),
    "train/teacher_l1": (
        "lower",
        "",
        "OMGD: L1 distance of the teachers that train beside the student to the target, summed over them.",
    ),
    "train/teacher_gan_loss": ("", "", "OMGD: the adversarial loss of these teachers, summed over them."),
    "train/teacher_discriminator_loss": ("", "", "OMGD: the loss of the discriminator that they share."),
    "train/gan_loss": ("", "", "The generator's adversarial loss."),
    "train/discriminator_loss": ("", "", "The discriminator's loss."),
    "train/back_discriminator_loss": ("", "", "CycleGAN: that of the discriminator of domain A."),
    "train/discriminator_gap": ("", "", "Mean score of real pictures minus that of generated ones."),
    "train/cycle": ("lower", "", "CycleGAN: L1 distance after there and back, both ways added."),
    "train/identity": (
        "lower",
        "",
        "CycleGAN: L1 distance of a generator's output for a picture of its target.",
    ),
    "train/r1": ("", "", "StyleGAN2: squared norm of the discriminator's gradient at real pictures."),
    "train/path_length": ("", "", "StyleGAN2: mean path length."),
    "train/path_penalty": ("", "", "StyleGAN2: squared distance of path lengths from their mean."),
    "train/evaluator_loss": ("lower", "", "The evaluator's own loss."),
    "train/features_loss": (
        "lower",
        "",
        "The loss of the network that stands in for VGG16, of the evaluator's task.",
    ),
    "train/vid_nll": ("lower", "nats", "VID: negative log likelihood of the teacher's picture, per value."),
    "train/vid_variance": ("", "", "VID: mean of the learnt variances of the channels."),
    "train/critic_loss": ("", "", "Pair critic: its own loss."),
    "train/critic_gap": (
        "",
        "",
        "Pair critic: mean score of pairs with the teacher minus that of the others.",
    ),
    "energy/gap": (
        "",
        "",
        "Mean E(t, s) - mean E(t~, s). Only its gradient belongs to the bound on the mutual information; its "
        "value is none.",
    ),
    "energy/pos": ("", "", "Mean energy E(t, s) of pairs with the positive picture."),
    "energy/neg": ("", "", "Mean energy E(t~, s) of pairs with the Langevin samples."),
    "energy/grad_norm": ("", "", "Mean norm of the energy's gradient along the chains."),
    "energy/displacement": (
        "",
        "",
        "||t~ - s|| / ||t - s||: how far the negatives are from the student's picture.",
    ),
    "energy/clamped": ("", "0 to 1", "Share of the negatives' values that the clamp to [-1, 1] changed."),
    "energy/temperature": ("", "", "Nominal temperature of the sampler, noise_std^2 / (2 step_size)."),
    "energy/alignment": (
        "higher",
        "-1 to 1",
        "Cosine of the term's negative gradient at s with t - s. Below 0 the term pushes the student away "
        "from "
        "its teacher. Any mutual-information term logs it.",
    ),
    "time/wall_sec": ("lower", "s", "Seconds of training and evaluation, over all interruptions."),
    "time/gpu_hours": ("lower", "h", "The same times the GPUs that the trial held."),
    "front/member": ("", "0 or 1", "Whether the trial is on the front."),
    "front/rank": ("lower", "", "Number of its front; 0 is the Pareto front."),
    "front/hv_contribution": ("higher", "", "Hypervolume that the front loses without it."),
    "front/order": ("lower", "", "In MLflow: its place, from 1, in a list with the front first."),
    "front/probability": ("higher", "0 to 1", "With replicates: probability to be on the front."),
    "front/num_members": ("", "", "Of the sweep's run: members of the front so far."),
    "front/hypervolume": ("higher", "", "Of the sweep's run: hypervolume of the front so far."),
    "front/seeds": ("", "", "With replicates: number of trainings of it."),
}
"""Name -> which way is better ("" where neither is), unit or range, meaning; a score stands as on val."""
COLUMNS = {
    "sweep_id": "Name of the sweep's folder.",
    "trial_id": "Name of the trial's folder, such as 0007. 0000 is the teacher.",
    "trial_key": "Digest of the job: config, seed, data, evaluator, teacher.",
    "role": "teacher, search, uniform, no_teacher, replicate, recheck or retrain.",
    "label": 'What a person calls it, such as "uniform 5"; empty for searched trials.',
    "status": "COMPLETE, PRUNED (stopped early), FAIL, or RUNNING: it has not ended.",
    "reason": "Why it failed or was stopped.",
    "macs_convention": "How multiply-accumulates are counted.",
    "hardware": "What it ran on.",
    "git_revision": "Commit of the code, where it is known.",
    "extractor": "What gave the features of the scores on val.",
    "resize": "How pictures were resized for it.",
    "split": "The split of these scores.",
    "real_statistics": "Digest of the real pictures' statistics.",
    "test_extractor": "`extractor` of the scores on test.",
    "test_resize": "`resize` of the scores on test.",
    "test_split": "`split` of the scores on test.",
    "test_real_statistics": "`real_statistics` of the scores on test.",
    "digest.teacher": "Digest of the teacher's network.",
    "digest.data": "Digest of the prepared data.",
    "digest.evaluator": "Digest of the evaluator's network.",
    "schema_version": "Version of the tables: 1.",
    "seed": "Seed of the training.",
    "nimg": "Images that it has seen, over all workers.",
    "budget_nimg": "Images that it was to see.",
    "num_samples": "Generated pictures that the scores on val are of.",
    "test_num_samples": "Generated pictures that the scores on test are of.",
    "biased": "Whether the Frechet distance on val is too large, because there are few samples for its "
    "features.",
    "test_biased": "The same on test.",
    "wall_sec": "Seconds of training and evaluation, over all interruptions.",
    "scoring_sec": "Seconds of wall_sec that evaluations took; empty: not known.",
    "gpu_sec": "The same times the GPUs that it held.",
    "front.member": "Whether it is on the front.",
    "front.rank": "Number of its front; 0 is the Pareto front. Missing where it does not compete.",
    "front.hv_contribution": "Hypervolume that the front loses without it.",
    "replicate_of": "Id of the trial that it repeats with another seed.",
    "recheck_of": "Id of the trial that it repeats by several workers.",
    "front.seeds": "With replicates: number of trainings.",
    "front.probability": "With replicates: probability to be on the front.",
}
EVALUATION_COLUMNS = {
    "schema_version": "Version of the tables: 1.",
    "sweep_id": "Name of the sweep's folder.",
    "trial_id": "Name of the trial's folder.",
    "seed": "Seed of the training.",
    "nimg": "Images seen when the number was measured.",
    "wall_sec": "Seconds of training until then.",
    "metric": "Name of the number, such as `val/miou` or `train/l1`.",
    "value": "The number.",
}
FILES = {
    "store.json": "Version of the store.",
    "cache/data/<digest>/": "A prepared data set: decoded arrays, memory-mapped.",
    "cache/evaluator/<key>/": "A trained evaluator, as a trial's folder.",
    "cache/features/<key>/": "A trained feature network, as a trial's folder; a file that --features named "
    "is beside it, by its digest.",
    "cache/teacher/<key>/": "A trained or given teacher, as a trial's folder, and its stored outputs.",
    "mlflow.db, mlartifacts/": "The default tracking store.",
    "batches/<name>/batch.json": "What a batch has spent.",
    "batches/<name>/compare-<space>.html": "Its methods side by side, as `raydistill compare` draws sweeps.",
    "sweeps/<name>/sweep.json": "The sweep's definition: options, config, space, plug-ins.",
    "sweeps/<name>/data/info.json": "What its data are (size, classes, counts), without their pictures.",
    "sweeps/<name>/trials/<id>/trial.json": "A trial, written when it is proposed: its whole job and its "
    "costs.",
    "sweeps/<name>/trials/<id>/result.json": "How it ended, written last.",
    "sweeps/<name>/trials/<id>/measured.json": "What `raydistill evaluate` and `raydistill latency` measured "
    "later.",
    "sweeps/<name>/trials/<id>/log.txt": "What its training said.",
    "sweeps/<name>/trials/<id>/discriminator/": "The discriminator of a generator without a teacher.",
    "sweeps/<name>/trials/<id>/samples.png": "A grid of pictures: inputs, targets, teacher, student.",
    "sweeps/<name>/trials/<id>/samples/<nimg>.png": "Two of them at each report, without the teacher's.",
    "sweeps/<name>/trials/<id>/checkpoint-<nimg>/": "The last two checkpoints, by images seen.",
    "sweeps/<name>/trials/<id>/network/": "The network itself: weights.safetensors and meta.json.",
    "sweeps/<name>/trials.csv, trials.parquet": "The trials table.",
    "sweeps/<name>/evaluations.csv, evaluations.parquet": "Learning curves.",
    "sweeps/<name>/frontier.html, frontier.png, frontier.csv": "The front as a page that opens offline, "
    "also while the sweep runs; a picture, a table.",
    "sweeps/<name>/page.json": "What the page says beside the tables, to draw it again.",
    "sweeps/<name>/forecast.json, plan.csv": "What the plan said; the same against what the sweep took.",
    "sweeps/<name>/ended.json": "Which limit ended the sweep, in words.",
    "sweeps/<name>/spent.json": "Hours and GPU-hours spent, over all starts.",
    "sweeps/<name>/warm_start.json": "Rows of other sweeps and tables, where it had a warm start.",
    "sweeps/<name>/retrained/": "Trainings by `raydistill retrain` and `raydistill ablate`, as trials.",
    "sweeps/<name>/retrained.csv, retrained.parquet": "Their table, with the trial that each repeats.",
    "sweeps/<name>/ablations.json": "Pairs of trainings that differ in one change.",
    "sweeps/<name>/ablations.csv, ablations.parquet": "Their numbers and differences, a row for each "
    "pair and metric.",
}
"""Path below the store -> content."""
