#!/bin/sh
# Makes the bundled model:  training/recipes/compact.sh DATA OUT
#
# DATA holds grid_s1/ and grid_s1_phones.tsv (tracked clips of one speaker and their phones), and
# speechocean/ and librispeech/, sound of many voices, each with a table of words. flite is needed.
# Every step goes on where it was stopped; all of it takes five to six hours,
# most of them on one core.
set -eu
data=$1 out=$2
mkdir -p "$out"

# One man's mouth, and the same in voices that are not his.
python -m training.prepare --source "$data/grid_s1" --phones "$data/grid_s1_phones.tsv" \
    --out "$out/grid_s1"
python -m training.voices --data "$out/grid_s1" --each 3 --out "$out/grid_s1_voices"

# A teacher: how that mouth moves with phones.
[ -e "$out/teacher.safetensors" ] ||
    python -m training.teacher --data "$out/grid_s1" --steps 1000 --out "$out/teacher.safetensors"

# What it says of 250 readers, of books read aloud, and of flite's voices.
labelled() { # NAME SOUNDS WORDS SPEAKER OPTION...
    name=$1 sounds=$2 words=$3 speaker=$4
    shift 4
    [ -e "$out/$name.tsv" ] || {
        python -m training.phones --source "$sounds" --words "$words" --out "$out/$name.part" "$@"
        mv "$out/$name.part" "$out/$name.tsv"
    }
    python -m training.label --teacher "$out/teacher.safetensors" --source "$sounds" \
        --phones "$out/$name.tsv" --speaker "$speaker" --out "$out/$name"
}
labelled speechocean "$data/speechocean" "$data/speechocean.tsv" '^\d(\d{4})' --recognise
labelled librispeech "$data/librispeech" "$data/librispeech.tsv" '^(\d+)-'
python -m training.synthesise --words "$data/librispeech.tsv" "$data/speechocean.tsv" \
    --count 1000 --out "$out/flite"
labelled synth "$out/flite" "$out/flite/words.tsv" '^([a-z]+)-'
python -m training.voices --data "$out/synth" --each 1 --out "$out/synth_voices"

# And the same with lips that open and shut more.
brisker() { # NAME SOUNDS SPEAKER
    python -m training.label --teacher "$out/teacher.safetensors" --brisker 0.4 --source "$2" \
        --phones "$out/$1.tsv" --speaker "$3" --out "$out/$1_brisk"
}
brisker speechocean "$data/speechocean" '^\d(\d{4})'
brisker librispeech "$data/librispeech" '^(\d+)-'
brisker synth "$out/flite" '^([a-z]+)-'
python -m training.voices --data "$out/synth_brisk" --each 1 --out "$out/synth_brisk_voices"

licence="GRID speaker 1 and LibriSpeech: CC BY 4.0; speechocean762: free for commercial use"
set -- "$out/speechocean" "$out/librispeech" "$out/synth" "$out/synth_voices"
python -m training.train @training/recipes/compact.args --threads 1 --out "$out/run" \
    --licence "$licence" --data "$out/grid_s1" "$out/grid_s1" "$out/grid_s1_voices" "$@"

# On from there: more of the man himself, of voices behind the speaker, and of nobody speaking.
python -m training.train @training/recipes/compact-on.args --threads 1 --out "$out/run-on" \
    --init "$out/run/model.safetensors" --licence "$licence" \
    --data "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" \
    "$out/grid_s1_voices" "$out/grid_s1_voices" "$@"

# And once more: his other voices as often as his own, and more voices behind them.
python -m training.train @training/recipes/compact-more.args --threads 1 --out "$out/run-more" \
    --init "$out/run-on/model.safetensors" --licence "$licence" \
    --data "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" "$out/grid_s1_voices" \
    "$out/grid_s1_voices" "$out/grid_s1_voices" "$out/grid_s1_voices" "$out/grid_s1_voices" "$@"

# Last: lips of strangers that part further and more briskly, pauses, and a level that drifts.
python -m training.train @training/recipes/compact-lively.args --threads 1 --out "$out/run-lively" \
    --init "$out/run-more/model.safetensors" --licence "$licence" \
    --data "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" "$out/grid_s1" "$out/grid_s1_voices" \
    "$out/grid_s1_voices" "$out/grid_s1_voices" "$out/grid_s1_voices" "$out/grid_s1_voices" \
    "$out/speechocean_brisk" "$out/librispeech_brisk" "$out/synth_brisk" "$out/synth_brisk_voices"
